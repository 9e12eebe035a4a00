"""Starting a conductor: create and lock a session's folder, then spawn a detached process that takes the lock over."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from methods.base.bounded_read import read_regular
from methods.base.home import HomeError, config_folder, subfolder
from sessions.device.affinity import ALLOWED, starting_on
from sessions.disk import own_plans
from sessions.disk.extension import Extension
from sessions.disk.host_file import host_of
from sessions.disk.journal import JournalError, read_journal
from sessions.disk.option_table import OptionError
from sessions.disk.plan import Goal, Plan
from sessions.disk.records import BlockEnded, BlockStarted, GoalSet, Prepared
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder, create
from sessions.run.begun import Begun
from sessions.run.known_evidence import KnownEvidence
from sessions.run.own_process import own_process
from sessions.run.rounds import Rounds

CONDUCTOR: Final = "sessions.run.conductor"
LOG_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


def launch(home: Path, plan: Plan, session: str | None = None) -> SessionFolder:
    """Create a session, with this ID if one is given, and start its conductor. Raises SessionError with a sentence."""
    try:
        folder, lock = create(subfolder(home, "sessions"), plan, session)
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
    _begin_again(folder, home, anyway, lambda session: session)
    return True


def extend(folder: SessionFolder, asked: Extension, home: Path, anyway: bool = False) -> Goal:
    """Start a conductor for more rounds of a session that has ended; what it then measures.

    Raises SessionError, besides where `resume` does, if that is nothing new.
    """

    def extended(session: SessionFile) -> SessionFile:
        goal = _new_goal(folder, session, asked)
        return msgspec.structs.replace(session, extensions=[*session.extensions, goal])

    return _begin_again(folder, home, anyway, extended).goal


def _begin_again(
    folder: SessionFolder, home: Path, anyway: bool, changed: Callable[[SessionFile], SessionFile]
) -> SessionFile:
    """Lock a session, change its session.json, and start its conductor; as it is then. Raises SessionError."""
    folder.read()
    folder.refuse_shared()
    if (elsewhere := host_of(folder.path)) is not None:
        raise SessionError(
            f"{folder.id} is measured on {elsewhere.host}: `kasoku resume {folder.id}` resumes it there."
        )
    if not anyway and not _is_own(folder, home):
        raise SessionError(
            f"{folder.id} was not started here, or its plan has changed since, and resuming it runs whatever its"
            f" plan.json says: look at that, then `kasoku resume --anyway {folder.id}`."
        )
    lock = folder.try_lock()
    if lock is None:
        raise SessionError(f"{folder.id} is running already: `kasoku attach {folder.id}` shows it.")
    try:
        session = msgspec.structs.replace(changed(folder.read()), status="preparing", error="")
        folder.take_asked()  # a stop of the last time is not meant for this one
        folder.write(session)
    except (SessionError, HomeError, JournalError, OptionError) as error:
        os.close(lock)
        raise SessionError(str(error)) from None
    _spawn(folder, lock, home)
    return session


def _new_goal(folder: SessionFolder, session: SessionFile, asked: Extension) -> Goal:
    """What is asked of a locked session. Raises SessionError, JournalError, OptionError where that is nothing new."""
    plan, begun, since = folder.plan(), Begun(), 0
    if not os.path.isfile(folder.journal):
        raise SessionError(f"{folder.id} has no journal.ndjson, so there is nothing to extend: start a new session.")
    for record in read_journal(folder.journal):
        begun.feed(record)
        if isinstance(record, BlockStarted | BlockEnded):
            since = max(since, record.block + 1)
    goal = asked.goal(since if session.goal.until is not None else max(since, session.goal.blocks))
    if asked.is_fidelity_alone:
        _check_unscored(folder, session)
    if goal.until is None:
        return goal
    rounds = Rounds(plan, [*session.goals, goal])
    for record in read_journal(folder.journal):
        rounds.feed(record)
    if next(rounds.missing(begun.done, lambda _: None), None) is None:
        raise SessionError(
            f"--until {goal.until * 100:g}% asks for nothing new of {folder.id}: each of its ratios is decided or known"
            " as well as that; `--blocks +10` adds ten rounds whatever they say."
        )
    return goal


def _check_unscored(folder: SessionFolder, session: SessionFile) -> None:
    """Raise SessionError where fidelity adds nothing to a session, or cannot be scored."""
    evidence, prepared = KnownEvidence(), None
    for record in read_journal(folder.journal):
        evidence.feed(record)
        prepared = record if isinstance(record, Prepared) else prepared
    if prepared is not None and not prepared.model.has_tokeniser:
        raise SessionError(f"{prepared.model.name} has no tokeniser, so its fidelity cannot be scored.")
    if all(evidence.of(method.name).scored is not None for method in session.plan.methods):
        raise SessionError(f"{folder.id} has the fidelity of all its methods already: `kasoku compare {folder.id}`.")


def _is_own(folder: SessionFolder, home: Path) -> bool:
    try:
        return own_plans.is_own(home, folder.id, read_regular(folder.path / "plan.json", links=False))
    except OSError:
        return False


def missing(folder: SessionFolder) -> list[tuple[str, int]]:
    """The blocks, as (method, number), that the session's goals ask for and that have not completed; none where the
    last goal was reached before. Raises SessionError."""
    session = folder.read()
    begun, extension = Begun(), 0
    try:
        for record in read_journal(folder.journal):
            begun.feed(record)
            if isinstance(record, GoalSet):
                extension = record.extension
    except JournalError as error:
        raise SessionError(str(error)) from None
    ends_early = session.goal.until is not None or session.goal.is_cut
    if session.status == "finished" and ends_early and extension == len(session.extensions):
        return []
    return [
        (row.method, row.block)
        for row in folder.plan().order(session.goals)
        if (row.method, row.block) not in begun.done
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
