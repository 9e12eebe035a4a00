"""The sampler's ticks on their way into the journal: a queue between the sampler's thread and the conductor's loop."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from probes.base.reading import Reading
from probes.gpu.nvml import Nvml
from probes.host.host import Host
from probes.host.process_tree import ProcessTree
from probes.sampler import Sampler
from sessions.disk.records import Telemetry

HANGS_S = 1.0
MOST_TROUBLES = 20
QUEUED_TICKS = 6_000  # ten minutes at 10 Hz: a conductor that was stopped for longer loses telemetry, not memory


@dataclass(frozen=True, slots=True)
class Idle:
    """The median power of GPUs that have nothing to do, in watts: of their sum, and of each."""

    total: float | None = None
    each: list[float] = field(default_factory=list)


class TelemetryFeed:
    """Starts the sampler; `records()` gives what came since the last call."""

    def __init__(self, nvml: Nvml) -> None:
        self.nvml = nvml
        self._ticks: queue.Queue[tuple[Reading, ...]] = queue.Queue(maxsize=QUEUED_TICKS)
        self._sampler = Sampler((nvml, Host(), ProcessTree()), self._put)
        self.lost_ticks = 0
        self._watched: dict[int, Collection[int]] = {}
        self._ours: frozenset[int] = frozenset()
        self._told: set[str] = set()

    def _put(self, readings: tuple[Reading, ...]) -> None:
        try:
            self._ticks.put_nowait(readings)
        except queue.Full:
            self.lost_ticks += 1

    def start(self) -> None:
        """Begin sampling."""
        self._sampler.start()

    def stop(self) -> None:
        """Stop sampling; a hanging source is abandoned with its daemon thread."""
        self._sampler.stop()

    def also_ours(self, pids: Collection[int]) -> None:
        """Have these processes count as no strangers on a GPU, and neither what they started."""
        self._ours = frozenset(pids)
        self._tell()

    def watch(self, pids: Collection[int], lane: int = 0) -> None:
        """Set whose process trees are a lane's: the source `runner` is all lanes' together; none is a stranger."""
        self._watched[lane] = pids
        self._tell()

    def _tell(self) -> None:
        watched = frozenset().union(*self._watched.values())
        self._sampler.watch(watched)
        self.nvml.also_ours(self._ours | watched)

    @property
    def missed_ticks(self) -> int:
        """Deadlines of the sampler that passed without a tick, and ticks that nobody took in time."""
        return self._sampler.health.missed + self.lost_ticks

    def troubles(self) -> list[str]:
        """New problems of the sampler, a sentence each: a source that hangs or raises."""
        health = self._sampler.health
        said = []
        if health.asking is not None and health.asking_s > HANGS_S:
            said.append(f"Telemetry is stalled: {health.asking} has not answered for over {HANGS_S:g} s.")
        if health.trouble is not None:
            said.append(f"Telemetry is missing a reading: {health.trouble}.")
        new = [sentence for sentence in said if sentence not in self._told and len(self._told) < MOST_TROUBLES]
        self._told.update(new)
        return new

    def records(self) -> Iterator[Telemetry]:
        """A record for each tick that is waiting."""
        while True:
            try:
                readings = self._ticks.get_nowait()
            except queue.Empty:
                return
            yield telemetry_record(readings)

    def idle_power(self, sources: list[str], seconds: float) -> tuple[Idle, list[Telemetry]]:
        """The power of the GPUs over that long, and the ticks it was taken from; at once where there are none."""
        if not sources:
            return Idle(), []
        taken: list[Telemetry] = []
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                taken.append(telemetry_record(self._ticks.get(timeout=left)))
            except queue.Empty:
                break
        whole = [watts for record in taken if len(watts := _watts(record, sources)) == len(sources)]
        if not whole:
            return Idle(), taken
        each = [statistics.median(watts[source] for watts in whole) for source in sources]
        return Idle(statistics.median(sum(watts.values()) for watts in whole), each), taken


def _watts(record: Telemetry, sources: list[str]) -> dict[str, float]:
    return {row[0]: row[3] for row in record.rows if row[0] in sources and row[1] == "power_w" and row[3] is not None}


def telemetry_record(readings: tuple[Reading, ...]) -> Telemetry:
    """One tick as the journal keeps it."""
    rows = [(r.source, r.metric, r.unit, r.value, r.t_ns, r.call_us, r.status) for r in readings]
    return Telemetry(t=max((r.t_ns for r in readings), default=time.perf_counter_ns()), rows=rows)
