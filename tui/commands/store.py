"""The session named on the command line. Imports nothing slow, so that listing thousands is immediate."""

from __future__ import annotations

import os

from methods.base.home import SESSIONS, home
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.disk.store import Store
from tui.command_line import STORE_VARIABLE, UsageError


def store() -> Store:
    """The saved sessions of this home."""
    return Store(home() / SESSIONS)


def all_sessions(named: str | None) -> Store:
    """The same, and beside them the team's store: the one named with --store, else by $KASOKU_STORE, if any.

    Nothing is asked of it yet. Raises UsageError.
    """
    where = named or os.environ.get(STORE_VARIABLE)
    if not where:
        return store()
    from sessions.published.published import Published

    try:
        return Store(home() / SESSIONS, Published(where, home()))
    except SessionError as error:
        raise UsageError(str(error)) from None


def find(session: str, among: Store | None = None) -> SessionFolder:
    """The folder of a session named on the command line, or UsageError."""
    try:
        return (among or store()).folder(session)
    except SessionError as error:
        raise UsageError(str(error)) from None
