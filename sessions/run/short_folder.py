"""A folder with a short path, for the sockets of an engine's processes: TMPDIR is too long for them here and there."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

# A Unix socket's path ends at 107 bytes. vLLM's sockets add a slash and 36 letters to their folder's, and that is 16
# longer than the one it is in.
LONGEST: Final = 107 - 37 - 16


@contextlib.contextmanager
def short_folder(environ: Mapping[str, str] = os.environ) -> Iterator[Path | None]:
    """A new folder, the user's alone, that is gone afterwards with all that is in it; None where none can be made."""
    made = None
    for place in (tempfile.gettempdir(), environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/dev/shm"):  # noqa: S108
        if place.startswith("/") and len(os.fsencode(place)) <= LONGEST:
            with contextlib.suppress(OSError):
                made = Path(tempfile.mkdtemp(prefix="kasoku-", dir=place))
                break
    try:
        yield made
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
