"""`kasoku calibrate`: one method's requests under each part of the workbench in turn, in the same process.

The runner pauses before each request. In the pause the calibration switches what belongs to the request's condition:
the sampler, the journal, and viewers, which are stopped and let go on by signal. A request that began before its
condition was in place does not count. Under a load a condition has, instead of a request, a point of its own: as many
requests as are in flight, and as many again, with the throughput of them all. All of it happens in a session of its own
below the home's cache, which viewers follow as any other and which is deleted at the end.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from methods.base.home import config_folder
from probes.base.clock import boot_id
from probes.capture import capture
from probes.gpu.nvml import Nvml
from sessions.calibrate.calibration_session import CalibrationError, Told, calibration_session, prepared_in
from sessions.calibrate.turns import Turns
from sessions.calibrate.viewer_terminal import ViewerTerminal
from sessions.device.device_key import device_key
from sessions.disk.journal import JournalWriter
from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.records import (
    SCHEMA_VERSION,
    AnyRecord,
    BlockPhase,
    BlockStarted,
    Header,
    MachineSeen,
    ManyTokens,
    PointEnded,
    PointStarted,
    Prepared,
    RequestEnded,
    RequestStarted,
    Telemetry,
    Tokens,
)
from sessions.disk.session_folder import SessionFolder
from sessions.frames.counting import block_counts, request_counts
from sessions.run.block_run import BlockRun
from sessions.run.software import software
from sessions.run.telemetry_feed import TelemetryFeed
from sessions.verdict.observer_effect import (
    AGAIN,
    APP,
    BARE,
    SLOW_APP,
    TELEMETRY,
    WATCHED,
    Calibration,
    conditions_with,
    effects,
    keep,
)

PAUSE_S: Final = 0.4
WITH_JOURNAL: Final = frozenset(WATCHED)
WITH_TELEMETRY: Final = WITH_JOURNAL | {TELEMETRY}
SLOW_LINK_BYTES_S: Final = 50_000.0
MOST_POINTS: Final = 1000
WAVES: Final = 2  # requests of a point for each in flight


class Calibrator:
    """`plan` has one method, and `rounds` rounds of requests a block: see `requests_of`; or of points: `with_points`.

    `parts` are the conditions beside the two bare ones, each of WATCHED with the command of its viewer, in which
    "{session}" stands for the id of the session that it follows; the others have none.
    `told` hears what goes on.
    """

    def __init__(
        self,
        plan: Plan,
        home: Path,
        parts: Mapping[str, Sequence[str]],
        told: Told,
    ) -> None:
        self._plan, self._home, self._told = plan, home, told
        self._commands = {condition: command for condition, command in parts.items() if command}
        self._turns = Turns(conditions_with(parts), plan.seed)
        self._viewers: dict[str, ViewerTerminal] = {}
        self._feed: TelemetryFeed | None = None
        self._nvml = Nvml()
        self._pid: int | None = None
        self._condition = ""
        self._all_well = True  # so did the requests of the point end
        self._app_cpu: list[tuple[float, float]] = []  # CPU seconds and seconds of the app's requests
        self._app_before = 0.0
        self.stopped = False  # by ctrl+c, after whole rounds that are kept

    @staticmethod
    def requests_of(rounds: int, parts: Collection[str]) -> int:
        """Requests that a block of so many rounds makes."""
        return rounds * 2 * len(conditions_with(parts))

    @staticmethod
    def with_points(plan: Plan, rounds: int, parts: Collection[str]) -> Plan:
        """The plan of a closed loop, with its point once for each condition of a block. Raises CalibrationError."""
        count, point = Calibrator.requests_of(rounds, parts), plan.primary
        if count > MOST_POINTS:
            raise CalibrationError(
                f"{count} points a block are too many, {MOST_POINTS} at most: ask for fewer --rounds."
            )
        requests = WAVES * (point.concurrency or 1)
        slots = [
            dataclasses.replace(
                point, name=f"{point.name} #{number + 1}", requests=requests, warmup=0 if number else point.warmup
            )
            for number in range(count)
        ]
        return dataclasses.replace(plan, points=slots)

    def carry_out(self) -> Calibration:
        """Prepare, run every block, and keep the result. Raises CalibrationError, SessionError, HomeError.

        Ctrl+c (KeyboardInterrupt) ends it with the rounds that are whole by then; it passes through if there are none.
        """
        with calibration_session(self._plan, self._home) as (folder, cache):
            try:
                return self._measured(folder, cache)
            finally:
                self._close_viewers()
                self._sampling(False)

    def _measured(self, folder: SessionFolder, cache: Path) -> Calibration:
        self._journal = JournalWriter(folder.path)
        self._journal.append(
            Header(
                t=time.perf_counter_ns(),
                schema_version=SCHEMA_VERSION,
                session=folder.id,
                realtime_ns=time.time_ns(),
                boot_id=boot_id(),
            )
        )
        prepared = self._prepared(folder)
        order = self._plan.order()
        position = 0
        try:
            for position, block in enumerate(order, start=1):
                self._block(folder, block, position, len(order), prepared, cache)
        except KeyboardInterrupt:
            if not effects(self._turns.slots):
                raise
            self.stopped = True
        self._journal.close()
        machine = capture(self._nvml)
        cpu_s, seconds = (sum(column) for column in zip(*self._app_cpu, strict=True)) if self._app_cpu else (0.0, 0.0)
        calibration = Calibration(
            method=self._plan.methods[0].name,
            model=self._plan.model,
            device=self._plan.device,
            t_realtime_ns=time.time_ns(),
            tokens_per_request=self._plan.sampling.max_new_tokens,
            processes=position,
            concurrency=self._plan.primary.concurrency,
            app_cpu_percent=100 * cpu_s / seconds if seconds else None,
            machine=machine,
            software=software(),
            effects=effects(self._turns.slots),
            slots=self._turns.slots,
        )
        keep(self._home, device_key(self._plan, machine), calibration)
        return calibration

    def _prepared(self, folder: SessionFolder) -> Prepared:
        prepared = prepared_in(folder, self._plan, self._journal.append, self._told)
        machine = capture(self._nvml)
        self._journal.append(
            MachineSeen(
                t=time.perf_counter_ns(),
                machine=machine,
                software=software(),
                gpus=self._plan.gpu_sources,
                idle_w=None,
            )
        )
        folder.write(msgspec.structs.replace(folder.read(), status="running", machine=machine))
        return prepared

    def _close_viewers(self) -> None:
        while self._viewers:
            self._viewers.popitem()[1].close()

    def _start_viewers(self, folder: SessionFolder) -> None:
        """Started again for each block: a block's end kills every process that this one has started."""
        environ = {
            **os.environ,
            "KASOKU_HOME": str(folder.path.parent.parent),
            "KASOKU_CONFIG": str(config_folder()),
        }
        for condition, command in self._commands.items():
            self._viewers[condition] = ViewerTerminal(
                [part.format(session=folder.id) for part in command],
                environ,
                bytes_s=SLOW_LINK_BYTES_S if condition == SLOW_APP else None,
            )

    def _block(
        self, folder: SessionFolder, block: PlannedBlock, position: int, of: int, prepared: Prepared, cache: Path
    ) -> None:
        self._turns.deal(block.block, block.points or block.requests)
        self._start_viewers(folder)
        self._set("")
        method = block.method
        self._journal.append(
            BlockStarted(
                t=time.perf_counter_ns(),
                method=method,
                block=block.block,
                position=position,
                of=of,
                environment=prepared.interpreters[method].environment,
            )
        )
        bare = self._turns.under((BARE, AGAIN))
        run = BlockRun(
            folder,
            self._plan,
            block,
            prepared,
            self._take,
            self._tick,
            cache,
            changes={"bare_points" if block.points else "bare_requests": bare, "pause_s": PAUSE_S, "greedy": False},
        )
        try:
            ended = run.carry_out(self._watch)
        finally:
            self._close_viewers()
        if not block_counts(ended.status):
            raise CalibrationError(f"Block {block.block + 1} of {of} {ended.status}: {ended.error}")

    def _watch(self, pid: int | None) -> None:
        self._pid = pid
        if self._feed is not None:
            self._feed.watch(self._pids())

    def _pids(self) -> tuple[int, ...]:
        return () if self._pid is None else (self._pid,)

    def _tick(self) -> str:
        for condition, viewer in self._viewers.items():
            if not viewer.alive:
                raise CalibrationError(f"The viewer of {condition!r} exited: {viewer.last_words()}")
        for record in self._telemetry():
            if self._condition in WITH_JOURNAL:
                self._journal.append(record)
        return ""

    def _telemetry(self) -> list[Telemetry]:
        return list(self._feed.records()) if self._feed is not None else []

    def _take(self, record: AnyRecord) -> None:
        """A record of the runner: into the journal where the condition has one, and the request's figures out of it."""
        match record:
            case RequestStarted(warmup=False) if not self._plan.has_load or not self._turns.begun:
                self._turns.begin(record.t)
                self._told("measuring", len(self._turns.slots), len(self._turns) * self._plan.blocks)
            case PointStarted():
                self._turns.begin(None)
                self._all_well = True
            case Tokens():
                self._turns.add(len(record.ids), record.times[-1])
            case ManyTokens():
                self._turns.add(sum(len(each.ids) for each in record.tokens), record.t)
            case _:
                pass
        if self._condition in WITH_JOURNAL or self._condition == "":
            self._journal.append(record)
        match record:
            case BlockPhase(phase="timed"):
                self._set(self._turns.first)
            case RequestEnded() if self._plan.has_load:
                self._all_well = self._all_well and request_counts(False, record.finish, 1.0)
            case RequestEnded() if record.request in self._turns:
                self._account(record.request, request_counts(False, record.finish, 1.0))
            case PointEnded():
                if not block_counts(record.status):
                    raise CalibrationError(f"{self._plan.points[record.place].name} {record.status}: {record.error}")
                self._account(record.place, self._all_well)
            case _:
                pass

    def _account(self, slot: int, well: bool) -> None:
        """A request, or a point, is over: its rate, if all of it `well` counts, and the condition of the next."""
        if (condition := self._turns.end(slot, well)) is not None:
            self._account_app(condition)
        self._set(self._turns.following(slot))

    def _account_app(self, condition: str) -> None:
        if condition == APP:
            used = self._viewers[APP].cpu_s() - self._app_before
            self._app_cpu.append((used, (time.perf_counter_ns() - self._turns.since_ns) / 1e9))

    def _set(self, condition: str) -> None:
        """Put a condition in place; "" is between blocks: journal and viewers run, nothing is measured."""
        self._condition = condition
        for name, viewer in self._viewers.items():
            if condition in ("", name):
                viewer.go_on()
            else:
                viewer.rest()
        self._sampling(condition in WITH_TELEMETRY)
        if condition == APP:
            self._app_before = self._viewers[APP].cpu_s()
        self._turns.ready()

    def _sampling(self, wanted: bool) -> None:
        if wanted and self._feed is None:
            self._feed = TelemetryFeed(Nvml())
            self._feed.start()
            self._feed.watch(self._pids())
        elif not wanted and self._feed is not None:
            self._feed.stop()
            self._feed = None
