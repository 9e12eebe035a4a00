"""`kasoku calibrate METHOD --neighbours N`: a method alone and with N − 1 of its kind beside it, in turn.

Each has a part of the device, as the rounds of a session that spreads. The neighbours load first, and then answer one
request after another for as long as they are not stopped; the runner that is measured pauses before each of its own
requests, and in the pause they are stopped, or let go on. One beside which a neighbour gave no token does not count.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from probes.capture import capture
from probes.gpu.nvml import Nvml
from sessions.calibrate.calibration import PAUSE_S
from sessions.calibrate.calibration_session import CalibrationError, Told, calibration_session, prepared_in
from sessions.calibrate.neighbour import Neighbour
from sessions.calibrate.turns import Turns
from sessions.device.affinity import shared_out
from sessions.device.device_key import device_key
from sessions.device.lane_cores import lane_cores
from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.records import AnyRecord, BlockPhase, Prepared, RequestEnded, RequestStarted, Tokens
from sessions.disk.session_folder import SessionFolder
from sessions.frames.counting import block_counts, request_counts
from sessions.run.block_run import TICK_S, BlockRun
from sessions.run.software import software
from sessions.run.telemetry_feed import TelemetryFeed
from sessions.run.wardens import Wardens
from sessions.verdict.neighbours import ALONE, BESIDE, CONDITIONS, Neighbours, keep
from sessions.verdict.observer_effect import Effect, effects

AS_MANY: Final = 10  # requests of a neighbour for each of the one that is measured: more than it gets to


class NeighboursCalibrator:
    """`plan` has one method, as many lanes as are at work at once, and rounds of requests a block: see `requests_of`.

    `told` hears what goes on.
    """

    def __init__(self, plan: Plan, home: Path, told: Told) -> None:
        self._plan, self._home, self._told = plan, home, told
        self._turns = Turns(CONDITIONS, plan.seed)
        self._nvml = Nvml()
        self._feed = TelemetryFeed(self._nvml)
        self._wardens = Wardens()
        self._cores: Sequence[frozenset[int]] = ()  # each lane's
        self._neighbours: list[Neighbour] = []
        self._before: list[int] = []  # tokens of each neighbour when the request began
        self._condition = ""
        self.stopped = False  # by ctrl+c, after whole rounds that are kept

    @staticmethod
    def requests_of(rounds: int) -> int:
        """Requests that a block of so many rounds makes."""
        return rounds * 2 * len(CONDITIONS)

    def carry_out(self) -> Neighbours:
        """Prepare, run every block, and keep the result. Raises CalibrationError, SessionError, HomeError.

        Ctrl+c (KeyboardInterrupt) ends it with the rounds that are whole by then; it passes through if there are none.
        """
        if not (method := self._plan.methods[0]).below_runner:
            raise CalibrationError(f"{method.name} runs in a container, and so cannot be stopped between requests.")
        with calibration_session(self._plan, self._home) as (folder, cache):
            prepared = prepared_in(folder, self._plan, lambda _: None, self._told)
            machine = capture(self._nvml)
            self._cores = lane_cores(self._plan, machine, shared_out().runner).lanes
            self._feed.start()  # as in a session
            position = 0
            try:
                for position, block in enumerate(self._plan.order(), start=1):
                    self._block(folder, block, position, prepared, cache)
            except KeyboardInterrupt:
                if not self._effects():
                    raise
                self.stopped = True
            finally:
                self._feed.stop()
            found = Neighbours(
                method=method.name,
                model=self._plan.model,
                device=self._plan.device,
                lanes=self._plan.lanes,
                t_realtime_ns=time.time_ns(),
                tokens_per_request=self._plan.sampling.max_new_tokens,
                processes=position,
                machine=machine,
                software=software(),
                effects=self._effects(),
                slots=self._turns.slots,
            )
            keep(self._home, device_key(self._plan, machine), found)
            return found

    def _effects(self) -> list[Effect]:
        found = effects(self._turns.slots, CONDITIONS)
        return sorted(found, key=lambda effect: CONDITIONS.index(effect.condition))

    def _block(
        self, folder: SessionFolder, block: PlannedBlock, position: int, prepared: Prepared, cache: Path
    ) -> None:
        """One block in the first lane, numbered so that each of its neighbours has another one."""
        lanes, first = self._plan.lanes, block.block * self._plan.lanes
        self._turns.deal(block.block, block.requests)
        many = list(range(AS_MANY * len(block.requests)))
        self._neighbours = []
        with ThreadPoolExecutor(lanes, thread_name_prefix="neighbour") as pool:
            try:
                for lane in range(1, lanes):
                    other = dataclasses.replace(block, block=first + lane, requests=many)
                    place = cache, self._wardens, self._cores[lane]
                    beside = Neighbour(pool, folder, self._plan, other, prepared, *place, self._watching(lane))
                    self._neighbours.append(beside)
                self._wait_for_neighbours()
                self._set(ALONE)
                run = BlockRun(
                    folder,
                    self._plan,
                    dataclasses.replace(block, block=first),
                    prepared,
                    self._take,
                    self._tick,
                    cache,
                    changes={"pause_s": PAUSE_S, "greedy": False},
                    wardens=self._wardens,
                    cores=self._cores[0],
                )
                ended = run.carry_out(self._watching(0))
            finally:
                for neighbour in self._neighbours:
                    neighbour.let_go()
        if not block_counts(ended.status):
            raise CalibrationError(f"Block {position} of {self._plan.blocks} {ended.status}: {ended.error}")

    def _watching(self, lane: int) -> Callable[[int | None], None]:
        return lambda pid: self._feed.watch(() if pid is None else (pid,), lane)

    def _wait_for_neighbours(self) -> None:
        """Until each has given a whole response: no longer than a runner may say nothing."""
        while not all(neighbour.at_work for neighbour in self._neighbours):
            for neighbour in self._neighbours:
                neighbour.look()
            self._told("loading the neighbours", len(self._turns.slots), len(self._turns) * self._plan.blocks)
            self._drop_telemetry()
            time.sleep(TICK_S)

    def _drop_telemetry(self) -> None:
        for _ in self._feed.records():
            pass

    def _tick(self) -> str:
        self._drop_telemetry()
        for neighbour in self._neighbours:
            if self._condition == BESIDE:
                neighbour.look_at_work(self._turns.since_ns)
            else:
                neighbour.look()
        return ""

    def _take(self, record: AnyRecord) -> None:
        """A record of the runner that is measured: its requests' rates, and in the pause before each its condition."""
        match record:
            case BlockPhase(phase="timed"):
                self._set(self._turns.first)
            case RequestStarted(warmup=False):
                self._turns.begin(record.t)
                self._before = self._tokens()
                self._told("measuring", len(self._turns.slots), len(self._turns) * self._plan.blocks)
            case Tokens():
                self._turns.add(len(record.ids), record.times[-1])
            case RequestEnded() if record.request in self._turns:
                answered = all(now > before for now, before in zip(self._tokens(), self._before, strict=True))
                beside = self._condition == BESIDE
                well = request_counts(False, record.finish, 1.0) and (answered or not beside)
                self._turns.end(record.request, well)
                self._set(self._turns.following(record.request))
            case _:
                pass

    def _tokens(self) -> list[int]:
        return [neighbour.tokens for neighbour in self._neighbours]

    def _set(self, condition: str) -> None:
        self._condition = condition
        for neighbour in self._neighbours:
            if condition == BESIDE:
                neighbour.go_on()
            else:
                neighbour.rest()
        self._turns.ready()
