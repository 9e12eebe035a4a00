"""What the system refused, in a sentence: for errors of the system that nobody nearer to them could explain."""

from __future__ import annotations

import os


def refusal(error: OSError | MemoryError | ImportError) -> str:
    """One sentence with the path, where the error names one, and the system's own words."""
    if isinstance(error, ImportError):
        return f"Kasoku is not whole, or cannot be read ({error}): install it again."
    if isinstance(error, MemoryError):
        return "Kasoku ran out of memory."
    why = error.strerror or str(error) or "the system refused something"
    names = [name for name in (error.filename, error.filename2) if isinstance(name, str | bytes | os.PathLike)]
    where = " and ".join(os.fsdecode(name) for name in names)
    return f"Kasoku could not go on: {f'{where}: ' if where else ''}{why[:1].lower()}{why[1:]}."
