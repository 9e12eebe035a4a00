"""The session named on the command line. Imports nothing slow, so that listing thousands is immediate."""

from __future__ import annotations

from methods.base.home import SESSIONS, home
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.disk.store import Store
from tui.command_line import UsageError


def store() -> Store:
    """The saved sessions of this home."""
    return Store(home() / SESSIONS)


def find(session: str) -> SessionFolder:
    """The folder of a session named on the command line, or UsageError."""
    try:
        return store().folder(session)
    except SessionError as error:
        raise UsageError(str(error)) from None
