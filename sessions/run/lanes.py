"""The rounds of a session, one after another or side by side, each in a lane with GPUs or cores of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

from sessions.disk.plan import PlannedBlock
from sessions.run.session_block import Measuring, SessionBlock

Blocks = Iterator[tuple[int, PlannedBlock]]
TICK_S: Final = 0.1


class Lanes:
    """Runs the missing blocks of a session; `lock` is held by whoever changes what it knows."""

    def __init__(self, session: Measuring, lock: threading.RLock) -> None:
        self._session, self._lock = session, lock

    def run(self) -> bool:
        """Every missing block of the rounds that the goal asks for; False if stopped before the last had ended."""
        session = self._session
        for rounds in session.rounds.waves(session.begun.done, session.append):
            one_by_one = session.plan.lanes == 1
            if not (self._in_turn(rounds[0], session.attend) if one_by_one else self._side_by_side(rounds)):
                return False
        return True

    def _in_turn(self, blocks: Blocks, attend: Callable[[], None]) -> bool:
        """The blocks of a round; False if stopped."""
        session = self._session
        while True:
            with self._lock:
                if (following := next(blocks, None)) is None:
                    return True
                position, row = following
                block = session.begun.left(row)
            if session.steering.stop or session.broken:
                return False
            attend()
            status = SessionBlock(session, block, position, attend).run()
            if session.steering.ends_with(status):
                return False
            with self._lock:
                session.journal.sync()

    def _side_by_side(self, rounds: list[Blocks]) -> bool:
        """A round in each lane, until all are over; one that fails stops the others."""
        session = self._session
        with ThreadPoolExecutor(len(rounds), thread_name_prefix="lane") as pool:
            lanes = [pool.submit(self._in_turn, blocks, _nothing) for blocks in rounds]
            try:
                while wait(lanes, TICK_S).not_done:
                    session.attend()
                    session.broken = session.broken or any(map(_has_failed, lanes))
            except BaseException:
                session.broken = True
                raise
        finished = [lane.result() for lane in lanes]  # raises what any of them has raised
        return all(finished)


def _has_failed(lane: Future[bool]) -> bool:
    return lane.done() and lane.exception() is not None


def _nothing() -> None:
    """Another thread attends to it."""
