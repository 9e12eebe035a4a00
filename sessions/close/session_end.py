"""Closing a session: its frames built from the journal, its status and a short summary put into session.json."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from methods.base.home import HomeError
from sessions.close.stretches import Stretches
from sessions.disk.journal import JournalError, NewerJournalError, read_journal
from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord, Header, SessionEnded
from sessions.disk.session_folder import (
    ALWAYS,
    ENDED,
    UNFINISHED,
    MethodSummary,
    NewerSessionError,
    NoLocksError,
    SessionError,
    SessionFolder,
    Stretch,
)

if TYPE_CHECKING:
    import polars as pl

INTERRUPTED: Final = "The session's process ended early: `kasoku resume {session}` runs the missing blocks."


def close_session(folder: SessionFolder, status: str, error: str = "") -> None:
    """Write the frames and the final session.json. Disk errors go into `error` and are never raised."""
    summary: list[MethodSummary] = []
    stretches: list[Stretch] = []
    try:
        plan = folder.plan()
        found = Stretches(plan)
        frames = _frames(folder, plan, found)
        stretches = found.found()
        summary = _summary(plan, frames)
        _keep_noise_floor(folder, plan, frames)
    except (JournalError, SessionError) as problem:
        error = error or str(problem)
    except OSError as problem:
        error = (
            error or f"The frames could not be written ({problem.strerror}): free some space, then open the session."
        )
    except Exception as problem:  # whatever a journal from elsewhere may hold; it stays as it is
        said = f"{type(problem).__name__}: {problem}".splitlines()[0][:200]
        error = error or f"The frames could not be built from the journal ({said}); the journal itself is untouched."
    try:
        session = folder.read()
        folder.write(
            msgspec.structs.replace(
                session,
                status=status,
                error=error,
                ended_ns=time.time_ns(),
                summary=summary,
                stretches=stretches or session.stretches,
            )
        )
    except (SessionError, HomeError, OSError):
        return  # the status stays unfinished, and whoever opens the session next recovers it


def _frames(folder: SessionFolder, plan: Plan, stretches: Stretches) -> dict[str, pl.DataFrame]:
    from sessions.frames.build import write_frames

    def records() -> Iterator[AnyRecord]:
        for record in read_journal(folder.journal):
            stretches.feed(record)
            yield record

    return write_frames(folder.path, folder.id, plan, records())


def _keep_noise_floor(folder: SessionFolder, plan: Plan, frames: dict[str, pl.DataFrame]) -> None:
    """Keep the noise floor of an A/A session: later differences on this device are shown with it."""
    from sessions.device.device_key import device_key
    from sessions.verdict.noise_floor import floor_of, keep

    session = folder.read()
    floor = floor_of(plan, folder.id, frames["runs"], frames["requests"], session.looked_at)
    if floor is None:
        return
    with contextlib.suppress(HomeError):
        keep(folder.path.parent.parent, device_key(session.plan, session.machine), floor)


def _summary(plan: Plan, frames: dict[str, pl.DataFrame]) -> list[MethodSummary]:
    import polars as pl

    from sessions.frames.counting import counted_requests, last_attempts

    rows: list[MethodSummary] = []
    counted = counted_requests(frames["runs"], frames["requests"]).filter(pl.col("point") == plan.primary.name)
    for method in plan.methods:
        runs = frames["runs"].filter(pl.col("method") == method.name)
        timed = counted.filter(pl.col("method") == method.name)
        effects = last_attempts(runs)["in_effect"].drop_nulls()
        rows.append(
            MethodSummary(
                method=method.name,
                tok_s_mean=timed.select(pl.mean("e2e_tok_s")).item(),
                in_effect=bool(effects.all()) if len(effects) else None,
                statuses=runs["status"].to_list(),
            )
        )
    return rows


def recover(folder: SessionFolder) -> str:
    """Finalise a session whose conductor is gone; returns its status then. A live or finished one is left unchanged,
    and so is one that cannot be locked because its file system has no locks.

    Raises SessionError if the folder holds no session, or one written by a newer Kasoku.
    """
    status = folder.read().status
    if not folder.is_own:
        return status
    if status not in UNFINISHED and all(os.path.isfile(folder.frame(name)) for name in ALWAYS):
        return status
    _refuse_newer(folder)
    try:
        lock = folder.try_lock()
    except NoLocksError:
        return status
    if lock is None:
        return status
    try:
        session = folder.read()
        status, error = session.status, session.error
        if status in UNFINISHED:
            ended = _said_end(folder)
            interrupted = INTERRUPTED.format(session=folder.id)
            status, error = (ended.status, ended.error) if ended else ("interrupted", interrupted)
        close_session(folder, status, error)
    finally:
        os.close(lock)
    return status


def _refuse_newer(folder: SessionFolder) -> None:
    try:
        folder.plan()
        next(read_journal(folder.journal), None)
    except NewerJournalError as error:
        raise NewerSessionError(str(error)) from None
    except NewerSessionError:
        raise
    except (SessionError, JournalError):
        pass  # what is damaged is said when the session is closed


def _said_end(folder: SessionFolder) -> SessionEnded | None:
    """The journal's final record, if it is of a conductor whose stretch session.json does not have yet: one that was
    started since and has written nothing leaves its predecessor's."""
    last, stretches = None, 0
    try:
        for record in read_journal(folder.journal):
            last = record
            stretches += isinstance(record, Header)
    except JournalError:
        return None
    if not isinstance(last, SessionEnded) or last.status not in ENDED:
        return None
    return last if stretches > len(folder.read().stretches) else None
