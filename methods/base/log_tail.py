"""The last lines of a log that somebody else wrote."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Final

READ_BYTES: Final = 65_536
LINE_CHARACTERS: Final = 500


def log_tail(log: Path, lines: int = 20) -> list[str]:
    """Its last `lines` lines that are not blank, without control characters; none where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - READ_BYTES))
            read = file.read(READ_BYTES)
    except OSError:
        return []
    said = (line for line in read.decode(errors="replace").splitlines() if line.strip())
    return [_printable(line[:LINE_CHARACTERS]) for line in deque(said, maxlen=lines)]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\t" else "�" for character in text)
