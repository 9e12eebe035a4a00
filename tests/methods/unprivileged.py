"""Being an ordinary user for a moment, where the tests run as root, whom no permission stops."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 54321


@contextmanager
def unprivileged(needed: Path) -> Iterator[None]:
    """Act as an ordinary user, who can reach the folder `needed`."""
    if os.geteuid() != 0:
        yield
        return
    opened = [(folder, folder.stat().st_mode) for folder in (needed, *needed.parents) if not folder.stat().st_mode & 1]
    for folder, mode in opened:
        folder.chmod(mode | 0o111)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        for folder, mode in opened:
            folder.chmod(mode)
