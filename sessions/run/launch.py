"""Starting a conductor: create and lock a session's folder, then spawn a detached process that takes the lock over."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import msgspec

from methods.base.bounded_read import read_regular
from methods.base.home import HomeError, config_folder, subfolder
from sessions.device.affinity import ALLOWED, starting_on
from sessions.disk import own_plans
from sessions.disk.journal import JournalError, read_journal
from sessions.disk.plan import Plan
from sessions.disk.records import BlockEnded
from sessions.disk.session_folder import SessionError, SessionFolder, create
from sessions.frames.counting import block_counts
from sessions.run.own_process import own_process

CONDUCTOR: Final = "sessions.run.conductor"
LOG_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def launch(home: Path, plan: Plan) -> SessionFolder:
    """Create a session and start its conductor. Raises SessionError with a sentence."""
    try:
        folder, lock = create(subfolder(home, "sessions"), plan)
    except HomeError as error:
        raise SessionError(str(error)) from None
    _spawn(folder, lock, home)
    return folder


def resume(folder: SessionFolder, home: Path, anyway: bool = False) -> bool:
    """Start a conductor for a session's missing blocks; False if none is missing.

    Raises SessionError if the session is running, or, unless `anyway`, if its plan was not made here.
    """
    session = folder.read()
    if session.status == "finished" and not missing(folder):
        return False
    if not anyway and not _is_own(folder, home):
        raise SessionError(
            f"{folder.id} was not started here, or its plan has changed since, and resuming it runs whatever its"
            f" plan.json says: look at that, then `kasoku resume --anyway {folder.id}`."
        )
    lock = folder.try_lock()
    if lock is None:
        raise SessionError(f"{folder.id} is running already: `kasoku attach {folder.id}` shows it.")
    folder.take_asked()  # a stop of the last time is not meant for this one
    try:
        folder.write(msgspec.structs.replace(folder.read(), status="preparing", error=""))
    except (SessionError, HomeError) as error:
        os.close(lock)
        raise SessionError(str(error)) from None
    _spawn(folder, lock, home)
    return True


def _is_own(folder: SessionFolder, home: Path) -> bool:
    try:
        return own_plans.is_own(home, folder.id, read_regular(folder.path / "plan.json", links=False))
    except OSError:
        return False


def missing(folder: SessionFolder) -> list[tuple[str, int]]:
    """The blocks, as (method, number), that the session's goal asks for and that have not completed; none where that
    goal was reached before. Raises SessionError."""
    session = folder.read()
    if session.status == "finished" and session.goal.until is not None:
        return []
    try:
        ended = {
            (record.method, record.block)
            for record in read_journal(folder.journal)
            if isinstance(record, BlockEnded) and block_counts(record.status)
        }
    except JournalError as error:
        raise SessionError(str(error)) from None
    return [
        (row.method, row.block)
        for row in folder.plan().order(session.goal.blocks)
        if (row.method, row.block) not in ended
    ]


def _spawn(folder: SessionFolder, lock: int, home: Path) -> None:
    """Start the conductor in its own process session; it inherits the lock, which is never without a holder."""
    try:
        log = os.open(folder.path / "conductor.log", LOG_FLAGS, 0o600)
        try:
            with starting_on(ALLOWED):  # not only where this viewer keeps itself to
                subprocess.Popen(
                    own_process(CONDUCTOR, str(folder.path), str(lock)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    cwd=folder.path,
                    env=os.environ | {"KASOKU_HOME": str(home), "KASOKU_CONFIG": str(config_folder())},
                )
        finally:
            os.close(log)
    except OSError as error:
        raise SessionError(f"The session's process cannot be started ({error.strerror}).") from None
    finally:
        os.close(lock)
