"""One session of another host in its folder here: its journal byte for byte, its session.json, and how it ended."""

from __future__ import annotations

import hashlib
import os
import time

import msgspec

from methods.base.home import HomeError
from sessions.close.session_end import close_session
from sessions.disk.host_file import OnHost, write_host
from sessions.disk.journal import end_of_last_line
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import ENDED, SessionError, SessionFile, SessionFolder, newer
from sessions.hosts.cluster import Look

FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class CarryError(Exception):
    """The session cannot be carried on with; the message is a sentence."""


class Carried:
    """The folder of a session that `host` measures; its lock is held by whoever made this.

    `offset` is how much of the journal is here, always whole lines; `seen` is when the session.json that is here was
    written there (ns).
    """

    def __init__(self, folder: SessionFolder, host: OnHost) -> None:
        self.folder, self.host = folder, host
        self.seen = 0
        self.offset = 0
        self.over = False
        self.abandoned = False  # nobody works on it there, and nobody has said how it ended
        self._ended: SessionFile | None = None
        self._journal = os.open(folder.journal, FLAGS, 0o600)
        self._cut(self._whole())

    def check(self) -> str:
        """SHA-256 of the journal until `offset`, "" where there is none of it yet."""
        if not self.offset:
            return ""
        summed = hashlib.sha256()
        for start in range(0, self.offset, 1 << 20):
            summed.update(os.pread(self._journal, min(1 << 20, self.offset - start), start))
        return summed.hexdigest()

    def begin_again(self) -> None:
        """Forget what is here of the journal: the host's is another one."""
        self._cut(0)

    def take(self, look: Look) -> None:
        """Keep what a look brought. Raises CarryError where it cannot be kept, or is not what it should be."""
        if look.lines:
            self._append(look.lines)
        if look.session:
            self._keep(look.session)
        self.seen = look.changed_ns
        if not look.live and self._ended is not None and not look.lines:
            self._finish(self._ended)
        self.abandoned = not look.live and self._ended is None and not look.lines

    def lost(self) -> None:
        """Write down that the host is out of reach from now on."""
        if self.host.lost_ns is None:
            self._set_lost(time.time_ns())

    def reached(self) -> None:
        """Write down that it is not."""
        if self.host.lost_ns is not None:
            self._set_lost(None)

    @property
    def lost_s(self) -> float:
        """For how long the host has been out of reach."""
        return 0.0 if self.host.lost_ns is None else max(0.0, (time.time_ns() - self.host.lost_ns) / 1e9)

    def give_up(self, sentence: str) -> None:
        """End the session here, with what came, as one that can be resumed there."""
        self.over = True
        close_session(self.folder, "interrupted", sentence)
        self._close()

    def _set_lost(self, since_ns: int | None) -> None:
        self.host = msgspec.structs.replace(self.host, lost_ns=since_ns)
        try:
            write_host(self.folder.path, self.host)
        except HomeError as error:
            raise CarryError(str(error)) from None

    def _append(self, lines: bytes) -> None:
        view = memoryview(lines)
        try:
            while view:
                view = view[os.write(self._journal, view) :]
        except OSError as error:
            os.ftruncate(self._journal, self.offset)
            raise CarryError(f"The journal cannot be written here ({error.strerror}): free some space.") from None
        self.offset += len(lines)

    def _keep(self, raw: bytes) -> None:
        """The host's session.json, under the name and the tags it has here; its end only once its journal is whole."""
        try:
            said = msgspec.json.decode(raw, type=SessionFile)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return  # torn, or from elsewhere: the next one counts
        if said.schema_version > SCHEMA_VERSION:
            raise CarryError(newer(self.folder.id, said.schema_version))
        if said.id != self.folder.id:
            raise CarryError(f"The host sent the session {said.id[:40]!r} in place of {self.folder.id}.")
        self._ended = said if said.status in ENDED else None
        if self._ended is None:
            self._write(said)

    def _write(self, said: SessionFile) -> None:
        try:
            here = self.folder.read()
            self.folder.write(
                msgspec.structs.replace(said, host=self.host.host, name=here.name, tags=here.tags, plan=here.plan)
            )
        except (SessionError, HomeError) as error:
            raise CarryError(str(error)) from None

    def _finish(self, said: SessionFile) -> None:
        """Build the frames here, and end as it ended there."""
        self.over = True
        close_session(self.folder, said.status, said.error)
        self._write(said)
        self._close()

    def _close(self) -> None:
        os.close(self._journal)

    def _whole(self) -> int:
        """The journal's size up to its last whole line."""
        with self.folder.journal.open("rb") as journal:
            return end_of_last_line(journal, os.fstat(self._journal).st_size)

    def _cut(self, size: int) -> None:
        os.ftruncate(self._journal, size)
        self.offset = size
