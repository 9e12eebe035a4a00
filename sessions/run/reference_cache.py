"""Where the reference's scores are kept: `cache/fidelity/KEY/` of the home, so that they are not measured again."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

import msgspec

from sessions.disk.records import ReferenceScored

FOLDER: Final = "fidelity"
KEPT: Final = 4  # references, the latest: each may take a gigabyte
FULL_MOST_BYTES: Final = 1 << 30


def folder_of(cache: Path, key: str) -> Path:
    """The folder of one reference."""
    return cache / FOLDER / key


def fidelity_job(reference: ReferenceScored, cache: Path) -> dict[str, object]:
    """What the runner is told of the windows, and where the reference's distributions are."""
    windows = [{"ids": window.ids, "scored": window.scored} for window in reference.windows]
    return {"windows": windows, "folder": str(folder_of(cache, reference.key))}


def forget_oldest(cache: Path) -> None:
    """Remove all references but the latest. What cannot be removed stays."""
    with contextlib.suppress(OSError):
        found = sorted((cache / FOLDER).iterdir(), key=lambda each: each.stat().st_mtime_ns, reverse=True)
        for folder in found[KEPT:]:
            shutil.rmtree(folder, ignore_errors=True)


def touch(folder: Path) -> None:
    """It was used: it is now the latest."""
    with contextlib.suppress(OSError):
        os.utime(folder)


def key_of(*facts: object) -> str:
    """A name for the reference that follows from these facts, of builtin types."""
    import hashlib

    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:24]
