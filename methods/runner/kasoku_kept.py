"""Files beside what Triton compiled: what was found or made once for a card is not made again."""

from __future__ import annotations

import os
import traceback
from pathlib import Path


def read(name: str) -> bytes | None:
    """What is kept under a name; None where nothing is, or can be."""
    place = _place(name)
    try:
        return None if place is None else _opened(place)
    except OSError:
        return None


def keep(name: str, content: bytes) -> None:
    """Have it read from now on, where there is a folder for it; it is whole there or not at all."""
    place = _place(name)
    if place is None:
        return
    try:
        making = place.with_suffix(".%d" % os.getpid())
        with making.open("wb") as file:
            file.write(content)
        making.replace(place)
    except OSError:
        traceback.print_exc()  # it is made again next time


def _place(name: str) -> Path | None:
    folder = os.environ.get("TRITON_CACHE_DIR")
    return Path(folder) / name if folder else None


def _opened(place: Path) -> bytes:
    with place.open("rb") as file:
        return file.read()
