"""A runner of the calibrated method in another lane: at work, or stopped where it is by signal."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from methods.base.warden import descendants
from sessions.calibrate.calibration_session import CalibrationError
from sessions.disk.deadlines import LONGEST_DEADLINE_S
from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.records import AnyRecord, Prepared, RequestEnded, Tokens
from sessions.disk.session_folder import SessionFolder
from sessions.run.block_run import BlockEnd, BlockRun
from sessions.run.wardens import Wardens


class Neighbour:
    """Its block runs in a thread of `pool` from now on; `watch` hears its process id."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        folder: SessionFolder,
        plan: Plan,
        block: PlannedBlock,
        prepared: Prepared,
        cache: Path,
        wardens: Wardens,
        cores: frozenset[int],
        watch: Callable[[int | None], None],
    ) -> None:
        self._token_s = plan.deadlines.token_s
        self.tokens = 0  # until now
        self.at_work = False  # it has given a whole response in its timed part
        self._let_go = False
        self._last_ns = 0
        self._run = BlockRun(
            folder,
            dataclasses.replace(plan, deadlines=dataclasses.replace(plan.deadlines, token_s=LONGEST_DEADLINE_S)),
            block,
            prepared,
            self._take,
            lambda: "stop" if self._let_go else "",
            cache,
            changes={"greedy": False},
            wardens=wardens,
            cores=cores,
        )
        self._end: Future[BlockEnd] = pool.submit(self._run.carry_out, watch)

    def _take(self, record: AnyRecord) -> None:
        self._last_ns = time.perf_counter_ns()
        match record:
            case Tokens():
                self.tokens += len(record.ids)
            case RequestEnded() if record.request >= 0:
                self.at_work = True
            case _:
                pass

    def look(self) -> None:
        """Raise CalibrationError where it is over, which it is not to be yet."""
        if self._end.done():
            end = self._end.result()
            raise CalibrationError(f"A neighbour {end.status}: {end.error or 'it had no more requests to make'}")

    def look_at_work(self, since_ns: int) -> None:
        """And where it has said nothing for as long as a runner may, having been let go on since then."""
        self.look()
        if time.perf_counter_ns() - max(self._last_ns, since_ns) > self._token_s * 1e9:
            raise CalibrationError(f"A neighbour has given no token for {self._token_s:g} s.")

    def rest(self) -> None:
        """Stop its processes where they are; what they gave a GPU to do is finished."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them run again."""
        self._signal(signal.SIGCONT)

    def let_go(self) -> None:
        """Have it ended: its thread is over soon after."""
        self._let_go = True
        self.go_on()

    def _signal(self, number: signal.Signals) -> None:
        for pid in () if self._end.done() else descendants(self._run.warden_pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
