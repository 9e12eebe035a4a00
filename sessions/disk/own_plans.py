"""The plans made in this home. Resuming a session runs the engine that its plan names.

`plans/ID` of the home holds the SHA-256 of the session's plan.json. A session that came from elsewhere has none, and
one whose plan was changed has another.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from methods.base.bounded_read import read_regular
from methods.base.home import private_folder, write_atomically

FOLDER: Final = "plans"


def remember(home: Path, session: str, plan: bytes) -> None:
    """Record that this home made the plan of this session. Raises HomeError."""
    write_atomically(private_folder(home / FOLDER) / session, hashlib.sha256(plan).hexdigest().encode())


def is_own(home: Path, session: str, plan: bytes) -> bool:
    """Whether the plan is the one that was made here for this session."""
    try:
        kept = read_regular(home / FOLDER / session).decode("ascii")
    except (OSError, ValueError):
        return False
    return kept == hashlib.sha256(plan).hexdigest()


def forget(home: Path, session: str) -> None:
    """Forget the plan of a deleted session."""
    try:
        (home / FOLDER / session).unlink(missing_ok=True)
    except OSError:
        return
