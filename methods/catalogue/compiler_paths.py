"""Paths that compilers take: torch gives its C++ compiler one line of text, where a space ends a path."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Final

TAKEN: Final = re.compile(r"[\w@%+=./~-]*")  # no space, quote, comma or colon, and no bytes that are not UTF-8
TEMPORARY: Final = ("/var/tmp", "/tmp")  # noqa: S108 - what is made there is the user's alone


def is_taken(path: Path) -> bool:
    """Whether a compiler finds a file of this path on its command line."""
    return TAKEN.fullmatch(str(path)) is not None


def compiled_folder(cache: Path, environment: str) -> Path:
    """Where what is compiled in an environment is kept; not created yet.

    It is below the home's cache, or, where compilers do not take that, below a folder of its own among the temporary
    files, which is created. If that cannot be, it is below the cache still.
    """
    below = Path("compiled") / (environment or "unnamed")
    return ((None if is_taken(cache) else _elsewhere(cache)) or cache) / below


def _elsewhere(cache: Path) -> Path | None:
    digest = hashlib.sha256(os.fsencode(cache)).hexdigest()[:12]
    for parent in (tempfile.gettempdir(), *TEMPORARY):
        folder = Path(parent) / f"kasoku-{os.getuid()}-{digest}"
        if is_taken(folder) and _is_own(folder):
            return folder
    return None


def _is_own(folder: Path) -> bool:
    """Make the folder; False if that fails, or somebody else has made it, who could put his code there."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        seen = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid() and not seen.st_mode & 0o077
