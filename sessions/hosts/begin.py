"""Sessions on other hosts, from a viewer: begun, attached to, resumed, in processes of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from methods.base.home import SESSIONS, HomeError, config_folder
from sessions.disk.host_file import OnHost, write_host
from sessions.disk.option_table import Value
from sessions.disk.session_folder import UNFINISHED, SessionError, SessionFolder
from sessions.hosts.asking import Doctored, Question, Sessions
from sessions.hosts.carrier import CARRIER
from sessions.hosts.hosts import HostError
from sessions.hosts.messages import Begun, DoctorAsked, MoreAsked, Refused, RunAsked
from sessions.run.launch import LOG_FLAGS
from sessions.run.own_process import own_process

ASKING: Final = "sessions.hosts.asking"
ANSWER_S: Final = 600.0  # more than whoever asks the hosts waits for any

Answer = TypeVar("Answer", bound=msgspec.Struct)


def begin(home: Path, on: str, hosts: Mapping[str, str], run: RunAsked) -> list[SessionFolder]:
    """Begin a session on each host and carry their journals here; the folders, in that order. Raises HostError."""
    begun = _asked(home, "begin", Question(on=on, hosts=dict(hosts), run=run), Sessions)
    folders = [SessionFolder(home / SESSIONS / begun.ids[name]) for name in hosts]
    carry(home, folders)
    return folders


def examine(home: Path, on: str, hosts: Mapping[str, str], create: Sequence[str] | None) -> Doctored:
    """What each host can run and what is missing there, after `create` as of DoctorAsked. Raises HostError."""
    asked = DoctorAsked(create=None if create is None else list(create))
    return _asked(home, "doctor", Question(on=on, hosts=dict(hosts), doctor=asked), Doctored, None)


def attach(home: Path, folder: SessionFolder, host: OnHost) -> None:
    """Carry on with a session whose carrier is gone, as it is on its host now. Raises HostError."""
    found = _asked(home, "find", _of_one(folder, host, None), Begun)
    _carry_one(home, folder, host, found)


def resume(home: Path, folder: SessionFolder, host: OnHost, said: Mapping[str, Value | None] | None) -> bool:
    """Resume a session on its host, or extend it; False if nothing is missing there. Raises HostError."""
    if folder.is_live():
        raise HostError(f"{folder.id} is running already: `kasoku attach {folder.id}` shows it.")
    found = _asked(home, "more", _of_one(folder, host, said), Begun)
    _carry_one(home, folder, host, found)
    return found.begun


def _of_one(folder: SessionFolder, host: OnHost, said: Mapping[str, Value | None] | None) -> Question:
    asked = MoreAsked(session=folder.id, said=None if said is None else dict(said))
    return Question(on=host.on, hosts={host.host: host.resource}, more=asked)


def _carry_one(home: Path, folder: SessionFolder, host: OnHost, found: Begun) -> None:
    try:
        write_host(folder.path, msgspec.structs.replace(host, folder=found.folder, lost_ns=None))
        folder.take_asked()  # a stop of the last time is not meant for this one
    except HomeError as error:
        raise HostError(str(error)) from None
    carry(home, [folder], found.status)


def carry(home: Path, folders: Sequence[SessionFolder], status: str = "") -> None:
    """Start a carrier for these sessions, which takes over their locks; `status` is that on the hosts, which an end
    of the last time would hide if the carrier died at once. Raises HostError."""
    locks: list[int] = []
    try:
        for folder in folders:
            lock = folder.try_lock()
            if lock is None:
                raise HostError(f"{folder.id} is followed already: `kasoku attach {folder.id}` shows it.")
            locks.append(lock)
            if status in UNFINISHED:
                folder.write(msgspec.structs.replace(folder.read(), status=status, error=""))
        pairs = [part for folder, lock in zip(folders, locks, strict=True) for part in (str(folder.path), str(lock))]
        log = os.open(folders[0].path / "conductor.log", LOG_FLAGS, 0o600)
        try:
            subprocess.Popen(
                own_process(CARRIER, *pairs),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=locks,
                start_new_session=True,
                cwd=folders[0].path,
                env=_environment(home),
            )
        finally:
            os.close(log)
    except (OSError, SessionError, HomeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise HostError(f"The process that carries the journals cannot be started ({reason}).") from None
    finally:
        for lock in locks:
            os.close(lock)


def _environment(home: Path) -> dict[str, str]:
    return os.environ | {"KASOKU_HOME": str(home), "KASOKU_CONFIG": str(config_folder())}


def _asked(home: Path, verb: str, question: Question, kind: type[Answer], timeout_s: float | None = ANSWER_S) -> Answer:
    """The answer of the hosts. Raises HostError with their sentence."""
    try:
        done = subprocess.run(
            own_process(ASKING, verb),
            input=msgspec.json.encode(question),
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=_environment(home),
            cwd=home,
            start_new_session=True,  # ctrl+c is kept until all have begun
        )
    except subprocess.TimeoutExpired:
        raise HostError(f"The cluster at {question.on} did not answer within {ANSWER_S / 60:.0f} minutes.") from None
    except OSError as error:
        raise HostError(f"The process that asks the hosts cannot be started ({error.strerror}).") from None
    answer = done.stdout.strip().rpartition(b"\n")[2]  # what Ray itself prints comes before it
    try:
        return msgspec.json.decode(answer, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        raise HostError(msgspec.json.decode(answer, type=Refused).error)
    except (msgspec.DecodeError, UnicodeDecodeError):
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise HostError(f"The hosts could not be asked: {last[0][:300] if last else 'no reason was given'}") from None
