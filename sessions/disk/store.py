"""All saved sessions: listed from their session.json, their frames scanned lazily as one; beside them a team's."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sessions.disk import own_plans
from sessions.disk.listing import SessionRow, listed
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import (
    ID_PATTERN,
    UNFINISHED,
    NewerSessionError,
    NoSessionError,
    SessionError,
    SessionFile,
    SessionFolder,
    newer,
)

if TYPE_CHECKING:
    import polars as pl

NEWEST: Final = ("last", "latest")


class Shared(Protocol):
    """What is asked of a team's store (sessions/published/); everything raises SessionError with a sentence."""

    @property
    def url(self) -> str:
        """What the user named it by."""
        raise NotImplementedError

    def listed(self) -> list[SessionRow]:
        """A row for every session, newest first; one that cannot be read is a row that says why."""
        raise NotImplementedError

    def find(self, session: str) -> SessionFolder | None:
        """The session with that ID, name, or beginning or end of an ID; None where there is none."""
        raise NotImplementedError

    def folder(self, session: str) -> SessionFolder | None:
        """The session with that ID; None where there is none."""
        raise NotImplementedError

    def fetch(self, sessions: Iterable[str], names: Iterable[str] | None = None) -> None:
        """Bring these files, else all, of many sessions; what is wrong with one is met again by who reads it."""
        raise NotImplementedError


class Store:
    """The folder `sessions/` of a home, and what a team shares beside it, where that was asked for: it is looked at for
    sessions that the home does not have, and in `shared_rows`."""

    def __init__(self, sessions: Path, shared: Shared | None = None) -> None:
        self.path = sessions
        self.shared = shared
        self.shared_before: list[SessionRow] = []  # what `shared_rows` said the last time

    def ids(self) -> list[str]:
        """Ids of all sessions, newest first."""
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - thousands of names
        except OSError:
            return []
        return sorted((name for name in names if ID_PATTERN.fullmatch(name)), reverse=True)

    def folder(self, session: str) -> SessionFolder:
        """The folder of the session with that id, name, or beginning or end of an id; `last` is the newest readable.

        Raises SessionError with a sentence where there is none, or more than one, or it leads out of its folder.
        """
        try:
            found = self._named(session)
        except NoSessionError as error:
            theirs = self.shared.find(session) if self.shared is not None and session not in NEWEST else None
            if theirs is None:
                raise self._nowhere(session, error) from None
            return theirs
        found.refuse_links()
        return found

    def at(self, session: str) -> SessionFolder:
        """The folder of the session with exactly that ID, unread: an own one need not be there. Raises SessionError."""
        own = SessionFolder(self.path / session)
        if self.shared is None or os.path.isdir(own.path):
            return own
        return self.shared.folder(session) or own

    def fetch(self, sessions: Iterable[str], names: Iterable[str] | None = None) -> None:
        """Bring these files, else all, of the sessions that are in the team's store, many at once, to be read next."""
        if self.shared is not None:
            theirs = [name for name in sessions if ID_PATTERN.fullmatch(name) and not os.path.isdir(self.path / name)]
            if theirs:
                self.shared.fetch(theirs, names)

    def shared_rows(self) -> list[SessionRow]:
        """A row for every session of the team's store that the home does not have. Raises SessionError."""
        if self.shared is None:
            return []
        own = set(self.ids())
        self.shared_before = [row for row in self.shared.listed() if row.id not in own]
        return self.shared_before

    def _nowhere(self, session: str, error: NoSessionError) -> NoSessionError:
        if self.shared is None or session in NEWEST:
            return error
        return NoSessionError(
            f"There is no session {session!r}, here or in {self.shared.url}: `kasoku sessions` lists them."
        )

    def _named(self, session: str) -> SessionFolder:
        if ID_PATTERN.fullmatch(session) and os.path.isdir(self.path / session):
            return SessionFolder(self.path / session)  # without a look at all the others
        ids = self.ids()
        if not ids:
            raise NoSessionError("There are no sessions yet: `kasoku run` creates one.")
        if session in NEWEST:
            return self._last(ids)
        found = [name for name in ids if session and (name.startswith(session) or name.endswith(session))]
        found = found or [row.id for row in self.listed() if row.name and row.name == session]
        if len(found) == 1:
            return SessionFolder(self.path / found[0])
        if found:
            raise SessionError(f"{session!r} matches {len(found)} sessions, such as {found[0]}: give more of the ID.")
        newest = self._last(ids).id
        raise NoSessionError(
            f"There is no session {session!r}: `kasoku sessions` lists them, `last` is the newest ({newest})."
        )

    def _last(self, ids: list[str]) -> SessionFolder:
        """The newest session that can be read. Raises SessionError."""
        for name in ids:
            with contextlib.suppress(SessionError):
                folder = SessionFolder(self.path / name)
                folder.read()
                return folder
        raise SessionError(f"None of the {len(ids)} sessions can be read: `kasoku sessions` says why.")

    def listed(self) -> list[SessionRow]:
        """A row for every session, newest first; one that cannot be read is a row that says why."""
        return listed(self.path, self.ids())

    def live(self) -> list[str]:
        """IDs of the running sessions, newest first."""
        return [name for name in self.ids() if SessionFolder(self.path / name).is_live()]

    def at_work(self) -> list[SessionFolder]:
        """Those whose measurement goes on, newest first: none that somebody holds for a moment, to read or to close."""
        found = []
        for session in self.live():
            folder = SessionFolder(self.path / session)
            with contextlib.suppress(SessionError):
                if folder.read().status in UNFINISHED:
                    found.append(folder)
        return found

    def scan(self, frame: str, sessions: Iterable[str] | None = None) -> pl.LazyFrame | None:
        """One of the frames over the given sessions, else all, as one lazy frame; None where no session has it.

        Sessions of an older Kasoku lack newer columns: those are null for them. A frame of a newer one raises
        SessionError where its session was named, and is left out where it was not.
        """
        import polars as pl

        from sessions.disk.frame_schema import SCHEMAS

        files = []
        for name in self.ids() if sessions is None else sessions:
            path = self.at(name).frame(frame)
            if os.path.isfile(path) and not os.path.islink(path) and not self._is_newer(path, sessions is not None):
                files.append(path)
        if not files:
            return None
        return pl.scan_parquet(files, schema=SCHEMAS[frame], missing_columns="insert", extra_columns="ignore")

    @staticmethod
    def _is_newer(path: Path, named: bool) -> bool:
        from sessions.disk.frame_schema import schema_version

        version = schema_version(path)
        if version > SCHEMA_VERSION and named:
            raise NewerSessionError(newer(path.parent.name, version))
        return version > SCHEMA_VERSION

    def delete(self, session: str) -> None:
        """Delete a session permanently; SessionError if it is running or cannot be removed."""
        folder = self._named(session)  # one that leads elsewhere can go too: no link is followed
        lock = None
        try:
            for link in (folder.path, folder.path / "lock"):
                if os.path.islink(link):
                    link.unlink()
            if os.path.isdir(folder.path):
                lock = folder.try_lock()
                if lock is None:
                    raise SessionError(f"{folder.id} is running: `kasoku stop {folder.id}` first.")
                shutil.rmtree(folder.path)
            own_plans.forget(self.path.parent, folder.id)
        except OSError as error:
            raise SessionError(f"{folder.id} cannot be removed ({error.strerror}).") from None
        finally:
            if lock is not None:
                os.close(lock)

    def relabel(self, session: str, *, name: str | None = None, tags: Iterable[str] | None = None) -> SessionFile:
        """Give a session another name or other tags; SessionError while its conductor is at work."""
        folder = self.folder(session)
        if folder.is_live():
            raise SessionError(f"{folder.id} is running: rename it once it has ended.")
        changed = folder.read()
        if name is not None:
            changed = msgspec.structs.replace(changed, name=name.strip()[:120])
        if tags is not None:
            changed = msgspec.structs.replace(changed, tags=sorted({tag.strip()[:40] for tag in tags if tag.strip()}))
        folder.write(changed)
        return changed
