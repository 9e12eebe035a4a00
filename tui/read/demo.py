"""The recording that ships with Kasoku: a real session, unpacked into a home of its own."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Final

RECORDING: Final = Path(__file__).parents[1] / "demo" / "recording.zip"


class DemoError(Exception):
    """The recording cannot be played; the message is a sentence."""


def unpack(home: Path) -> str:
    """Put the recorded session into this empty home, for its user alone, and give its ID. Raises DemoError."""
    try:
        with zipfile.ZipFile(RECORDING) as archive:
            archive.extractall(home / "sessions")
            names = {Path(name).parts[0] for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise DemoError(f"The recording {RECORDING} cannot be unpacked ({error}); reinstalling Kasoku helps.") from None
    for path in (home, home / "sessions", *(home / "sessions").iterdir()):
        path.chmod(0o700)
    return min(names)
