"""One session's folder: its files, its lock, its status, and who may write to it.

The lock is an flock on `lock`, held for life by the conductor and taken over from the viewer that made the folder by
inheriting the open file, so that a live session never looks abandoned.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from methods.base import file_lock
from methods.base.bounded_read import read_regular
from methods.base.home import HomeError, private_folder, write_atomically
from probes.base.clock import ClockAnchors, clock_anchors
from probes.host.surroundings import Surroundings
from probes.machine import Machine
from sessions.disk import own_plans
from sessions.disk.messages import Int64
from sessions.disk.plan import METHOD_NAME, Goal, Plan
from sessions.disk.records import SCHEMA_VERSION

ID_PATTERN: Final = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")
REQUEST: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")  # the name of a request file
FRAMES: Final = ("runs", "requests", "tokens", "telemetry", "fidelity")
ALWAYS: Final = FRAMES[:4]  # those of every Kasoku
UNFINISHED: Final = ("preparing", "running")
ENDED: Final = ("finished", "stopped", "failed", "interrupted")
LOCK_TRIES: Final = 10
LOCK_PAUSE_S: Final = 0.01


Decoded = TypeVar("Decoded")


class SessionError(Exception):
    """The session cannot be opened or changed; the message is a sentence for people."""


class NewerSessionError(SessionError):
    """The session was written by a newer Kasoku than this one."""


class NoSessionError(SessionError):
    """No session is called so."""


class NoLocksError(SessionError):
    """The session's file system has no locks, so nobody can have it to himself."""


class _Versioned(msgspec.Struct, frozen=True):
    schema_version: int = SCHEMA_VERSION


class MethodSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A method's results in short: the mean tokens/s of the requests that count, and the status of each of its runs."""

    method: str
    tok_s_mean: float | None = None
    in_effect: bool | None = None
    statuses: list[str] = []


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """What one conductor measured: a session that was resumed or extended has several.

    `began_ns` is wall-clock ns since the epoch. `rounds` are the numbers of the first and the last round with a block
    that counts; `changed` says what of the machine and its surroundings is not as it was in the first stretch.
    """

    began_ns: Int64
    seconds: float
    boot_id: str | None = None
    rounds: tuple[Int64, Int64] | None = None
    changed: str = ""


class SessionFile(msgspec.Struct, frozen=True, kw_only=True):
    """session.json. `created_ns` is wall-clock ns since the epoch; `summary` repeats a few results for listings."""

    id: str
    status: str  # preparing | running | finished | stopped | failed | interrupted
    schema_version: int = SCHEMA_VERSION
    created_ns: Int64 = 0
    ended_ns: Int64 | None = None
    error: str = ""
    name: str = ""
    tags: list[str] = []
    host: str = ""  # as --host called it, of a session that another machine measures
    plan: Plan
    machine: Machine = Machine()
    surroundings: Surroundings = Surroundings()
    software: dict[str, str] = {}  # versions by distribution
    clock_anchors: ClockAnchors | None = None
    summary: list[MethodSummary] = []
    extensions: list[Goal] = []  # what it was asked to measure after it had ended, the latest last
    stretches: list[Stretch] = []

    @property
    def goal(self) -> Goal:
        """How much is measured: as last asked for."""
        return self.extensions[-1] if self.extensions else self.plan.goal

    @property
    def goals(self) -> list[Goal]:
        """Every goal that it has had, in their order."""
        return [self.plan.goal, *self.extensions]

    @property
    def took_s(self) -> float | None:
        """How long it was at work, without the time between its stretches; None before its end."""
        if len(self.stretches) > 1:
            return sum(stretch.seconds for stretch in self.stretches)
        return (self.ended_ns - self.created_ns) / 1e9 if self.ended_ns and self.created_ns else None

    @property
    def looked_at(self) -> bool:
        """Whether the number of its blocks follows from what they said, which its intervals must allow for."""
        return self.plan.until is not None or bool(self.extensions)


def newer(session: str, version: int) -> str:
    """The sentence for what a newer Kasoku wrote."""
    return (
        f"{session} was written by a newer Kasoku (schema {version}, this one reads up to {SCHEMA_VERSION}):"
        " update Kasoku to open it."
    )


def new_id(now_s: float | None = None) -> str:
    """An id that sorts by time: UTC date, time of day, and six random hexadecimal digits."""
    moment = datetime.fromtimestamp(time.time() if now_s is None else now_s, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


class SessionFolder:
    """The files of one session below `sessions/<id>/`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def is_own(self) -> bool:
        """Whether it is one of this home, which can be changed here."""
        return True

    def refuse_shared(self) -> None:
        """Raise SessionError for one that cannot be changed here."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self.path)

    @property
    def journal(self) -> Path:
        return self.path / "journal.ndjson"

    def frame(self, name: str) -> Path:
        """The parquet file of one of the frames."""
        return self.path / f"{name}.parquet"

    def log(self, method: str, block: int) -> Path:
        """The log of a block's runner: everything the engine printed. SessionError if `method` is invalid."""
        if not re.fullmatch(METHOD_NAME, method):
            raise SessionError(f"{self.id} names a method {method[:100]!r}, which is not a valid method name.")
        return self.path / "logs" / f"{method}-{block}.log"

    def refuse_links(self) -> None:
        """Raise SessionError if anything here leads out of the folder: a session that Kasoku made has only plain
        files and folders in it, one from elsewhere may contain links, pipes and devices."""
        found = "a link itself" if os.path.islink(self.path) else ""
        for parent, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                with contextlib.suppress(FileNotFoundError):  # a temporary file of a conductor at work
                    kind = os.lstat(os.path.join(parent, name)).st_mode  # noqa: PTH118 - thousands of files
                    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                        found = found or f"a folder with {name!r} in it, which is a link or not a plain file"
        if found:
            raise SessionError(
                f"{self.id} is not opened: it is {found}, and may lead out of its folder; no session that Kasoku makes"
                " does that, so it came from elsewhere: delete it."
            )

    def refuse_gone(self) -> None:
        """Raise SessionError if the folder is no longer where it was."""
        if not os.path.isdir(self.path):
            raise SessionError(
                f"The folder of {self.id} is gone: {self.path} was moved or removed; where it is now, `kasoku resume"
                f" {self.id}` runs what is missing."
            )

    def read(self) -> SessionFile:
        """session.json, or SessionError with a sentence (missing, torn, or from a newer Kasoku)."""
        return self._decoded("session.json", SessionFile)

    def write(self, session: SessionFile) -> None:
        """Replace session.json atomically."""
        write_atomically(self.path / "session.json", msgspec.json.format(msgspec.json.encode(session), indent=1))

    def plan(self) -> Plan:
        """plan.json, or SessionError with a sentence."""
        return self._decoded("plan.json", Plan)

    def _decoded(self, name: str, kind: type[Decoded]) -> Decoded:
        try:
            raw = read_regular(self.path / name, links=False)
            version = msgspec.json.decode(raw, type=_Versioned).schema_version
            if version > SCHEMA_VERSION:
                raise NewerSessionError(newer(self.id, version))
            return msgspec.json.decode(raw, type=kind)
        except FileNotFoundError:
            self.refuse_gone()
            raise SessionError(f"{self.id} has no {name}: it is not a session, or was never started.") from None
        except OSError as error:
            raise SessionError(f"The {name} of {self.id} cannot be read ({error.strerror}).") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise SessionError(f"The {name} of {self.id} is damaged: it is not the JSON that Kasoku writes.") from None

    def try_lock(self) -> int | None:
        """An open file that holds the session's lock, or None where somebody else holds it. Raises SessionError."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SessionError(
                f"{self.id} cannot be locked ({error.strerror}): check the folder's permissions."
            ) from None
        try:
            for _ in range(LOCK_TRIES):  # a viewer that asks `is_live` holds it for a moment
                if file_lock.try_take(descriptor, self.path):
                    return descriptor
                time.sleep(LOCK_PAUSE_S)
        except file_lock.NoLocksError as error:
            os.close(descriptor)
            raise NoLocksError(str(error)) from None
        os.close(descriptor)
        return None

    def is_live(self) -> bool:
        """Whether a conductor holds the session's lock now; always false on a file system without locks."""
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return not file_lock.try_take(descriptor, self.path, shared=True)
        except file_lock.NoLocksError:
            return False
        finally:
            os.close(descriptor)

    # A viewer steers by dropping request files; the conductor reads them at 5 Hz and takes them away.

    def ask(self, action: str) -> None:
        """Drop a request file: `stop`, or `skip-METHOD-BLOCK`."""
        folder = self.path / "requests"
        if not REQUEST.fullmatch(action):
            raise SessionError(f"{action[:100]!r} is not a request that a session knows.")
        try:
            private_folder(folder, within=self.path)
            write_atomically(folder / action, b"")
        except HomeError as error:
            raise SessionError(str(error)) from None

    def take_asked(self) -> list[str]:
        """Collect and remove the request files; one that cannot be removed is ignored."""
        folder = self.path / "requests"
        try:
            names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
        except OSError:
            return []
        taken = []
        for name in names:
            with contextlib.suppress(OSError):
                (folder / name).unlink()
                taken.append(name)
        return taken


def create(sessions: Path, plan: Plan, session: str | None = None) -> tuple[SessionFolder, int]:
    """A new session's folder with its plan, status `preparing`, and its lock (an open file descriptor) already held.

    Raises SessionError, also where the ID that it is to have is none, or taken.
    """
    private_folder(sessions)
    folder = SessionFolder(sessions / (session or new_id()))
    if not ID_PATTERN.fullmatch(folder.id) or os.path.lexists(folder.path):
        raise SessionError(f"{folder.id[:100]} is not the ID of a new session: it is taken, or malformed.")
    try:
        return folder, _filled(sessions, folder, plan)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise


def _filled(sessions: Path, folder: SessionFolder, plan: Plan) -> int:
    """Put into a new session's folder all that belongs there; its lock."""
    private_folder(folder.path)
    private_folder(folder.path / "logs")
    lock = folder.try_lock()
    if lock is None:
        raise SessionError(f"{folder.id} is already taken: try again.")
    try:
        _write_beginning(sessions, folder, plan)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _write_beginning(sessions: Path, folder: SessionFolder, plan: Plan) -> None:
    if not folder.is_live():
        raise NoLocksError(file_lock.no_locks(folder.path.parent, "everybody is given the same one"))
    written = msgspec.json.format(msgspec.json.encode(plan), indent=1)
    write_atomically(folder.path / "plan.json", written)
    own_plans.remember(sessions.parent, folder.id, written)
    folder.write(
        SessionFile(
            id=folder.id,
            status="preparing",
            created_ns=time.time_ns(),
            plan=plan,
            clock_anchors=clock_anchors(),
        )
    )
