"""The sampler's ticks: absolute, never in bursts, never lost to a source."""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from probes.base.reading import OK, Reading
from probes.base.source import Source
from probes.gpu.nvml import Nvml
from probes.sampler import INTERVAL_NS, Sampler
from tests.probes.fake_clock import SECOND, FakeClock
from tests.probes.fake_nvml import FakeNvml

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MILLISECOND = 1_000_000


class Spending(Source):
    """Gives one reading a tick and spends what it is told to."""

    name = "spending"

    def __init__(self, clock: FakeClock, cost: Callable[[int], int] = lambda tick: 0) -> None:
        self.clock = clock
        self.cost = cost
        self.ticks = 0

    def fast(self) -> Sequence[Reading]:
        at = self.clock.now_ns()
        self.clock.spend(self.cost(self.ticks))
        self.ticks += 1
        return (Reading("spending", "m", "count", 1.0, at, 0.0, OK),)


def run(clock: FakeClock, *sources: Source) -> tuple[Sampler, list[tuple[Reading, ...]]]:
    ticks: list[tuple[Reading, ...]] = []
    sampler = Sampler(sources, ticks.append, clock)
    sampler.run()
    return sampler, ticks


def test_an_hour_of_ticks_does_not_drift() -> None:
    clock = FakeClock(3600 * SECOND, oversleep=lambda deadline: deadline // INTERVAL_NS % 7 * 60_000)
    sampler, ticks = run(clock, Spending(clock, lambda tick: 3 * MILLISECOND + tick % 11 * MILLISECOND))
    assert len(ticks) == 36_000
    assert sampler.health.missed == 0
    assert all(0 <= woken - place * INTERVAL_NS <= 360_000 for place, woken in enumerate(clock.woken))
    assert sampler.health.worst_late_us == 360.0


def test_a_source_that_overruns_skips_to_the_next_deadline_and_counts_what_it_missed() -> None:
    clock = FakeClock(2 * SECOND)
    sampler, ticks = run(clock, Spending(clock, lambda tick: 250 * MILLISECOND if tick == 3 else 0))
    at = [tick[0].t_ns // MILLISECOND for tick in ticks]
    assert at == [0, 100, 200, 300, *range(600, 2000, 100)]
    assert sampler.health.missed == 2


def test_a_machine_that_slept_makes_no_burst() -> None:
    clock = FakeClock(12 * SECOND, oversleep=lambda deadline: 5_030 * MILLISECOND if deadline == SECOND else 0)
    sampler, ticks = run(clock, Spending(clock))
    at = [tick[0].t_ns // MILLISECOND for tick in ticks]
    assert at == [*range(0, 1000, 100), *range(6100, 12_000, 100)]
    assert sampler.health.missed == 51


def test_eight_gpus_with_real_call_costs_do_not_delay_a_tick() -> None:
    clock = FakeClock(60 * SECOND)
    nvml = Nvml(FakeNvml(8, clock.spend), clock.now_ns)
    ticks: list[tuple[Reading, ...]] = []
    sampler = Sampler([nvml], ticks.append, clock)
    sampler.run()
    start = clock.woken[0]
    assert sampler.health.missed == 0
    assert all(woken == start + place * INTERVAL_NS for place, woken in enumerate(clock.woken))
    energies: dict[str, list[int]] = {}
    for place, tick in enumerate(ticks):
        deadline = start + place * INTERVAL_NS
        fast = [reading.t_ns for reading in tick if reading.metric == "power_w"]
        assert len(fast) == 8
        assert max(fast) - deadline < 10 * MILLISECOND
        assert max(reading.t_ns for reading in tick) - deadline < 10 * MILLISECOND
        read = [reading for reading in tick if reading.metric == "energy_j"]
        assert len(read) <= 1
        for reading in read:
            energies.setdefault(reading.source, []).append(reading.t_ns)
    assert len(energies) == 8
    for times in energies.values():
        assert all(abs(later - earlier - SECOND) < MILLISECOND for earlier, later in pairwise(times))


def test_sixteen_gpus_take_turns_longer_than_a_second() -> None:
    clock = FakeClock(16 * SECOND)
    nvml = Nvml(FakeNvml(16, clock.spend), clock.now_ns)
    sampler, ticks = run(clock, nvml)
    per_gpu = [sum(r.metric == "energy_j" and r.source == f"gpu{i}" for t in ticks for r in t) for i in range(16)]
    assert set(per_gpu) == {10} or set(per_gpu) == {9, 10}
    assert sampler.health.missed == 0


class Broken(Source):
    name = "broken"

    def open(self) -> Sequence[Reading]:
        raise OSError("open")

    def fast(self) -> Sequence[Reading]:
        raise ZeroDivisionError("fast\x1b[2J")

    def slow(self, turn: int) -> Sequence[Reading]:
        raise MemoryError(turn)


def test_a_source_that_raises_takes_nothing_else_along() -> None:
    clock = FakeClock(SECOND)
    sampler, ticks = run(clock, Broken(), Spending(clock))
    assert len(ticks) == 10
    assert sampler.health.trouble == "broken: MemoryError: 9"


def test_a_sink_that_fails_is_noted_and_asked_again() -> None:
    clock = FakeClock(SECOND)
    taken = []

    def sink(readings: tuple[Reading, ...]) -> None:
        taken.append(readings)
        if len(taken) < 3:
            raise OSError(28, "No space left on device")

    sampler = Sampler([Spending(clock)], sink, clock)
    sampler.run()
    assert len(taken) == 10
    assert sampler.health.trouble is not None
    assert "No space left" in sampler.health.trouble


class Hanging(Source):
    name = "hanging"

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()

    def fast(self) -> Sequence[Reading]:
        self.entered.set()
        self.release.wait(60)
        return ()


def test_a_hanging_source_is_named_does_not_hold_up_stopping_and_is_survived() -> None:
    source = Hanging()
    arrived = threading.Event()
    sampler = Sampler([source], lambda readings: arrived.set(), interval_ns=MILLISECOND)
    sampler.start()
    assert source.entered.wait(30)
    during = sampler.health
    assert during.asking == "hanging"
    assert during.asking_s >= 0
    assert not sampler.stop(timeout_s=0.01)
    source.release.set()
    assert sampler.stop(timeout_s=30)
    assert sampler.health.asking is None


def test_ticking_goes_on_after_a_source_hung() -> None:
    source = Hanging()
    sampler = Sampler([source], lambda readings: None, interval_ns=MILLISECOND)
    sampler.start()
    assert source.entered.wait(30)
    source.release.set()
    deadline = time.monotonic() + 30
    while sampler.health.ticks < 5 and time.monotonic() < deadline:
        threading.Event().wait(0.001)
    assert sampler.stop(30)
    assert sampler.health.ticks >= 5


def test_it_stops_at_the_next_tick_without_taking_it_and_starts_once() -> None:
    taken: list[object] = []
    first = threading.Event()

    def take(readings: object) -> None:
        taken.append(readings)
        first.set()

    sampler = Sampler([Spending(FakeClock())], take)
    sampler.start()
    assert first.wait(30)
    assert sampler.stop(timeout_s=30)
    assert len(taken) == sampler.health.ticks
    with pytest.raises(RuntimeError, match="make a new one"):
        sampler.start()


def test_a_gpu_lost_mid_run_costs_its_own_readings_only() -> None:
    clock = FakeClock(20 * SECOND)
    library = FakeNvml(2, clock.spend)
    nvml = Nvml(library, clock.now_ns)

    def lose(name: str) -> None:
        if clock.now_ns() > 10 * SECOND:
            library.fail["nvmlDeviceGetUtilizationRates", 0] = 15

    library.before_call = lose
    sampler, ticks = run(clock, nvml, Spending(clock))
    late = [reading for tick in ticks for reading in tick if reading.t_ns > 11 * SECOND]
    lost = [reading for reading in late if reading.source == "gpu0"]
    assert lost
    assert all(reading.value is None and "fallen off the bus" in reading.status for reading in lost)
    assert len({reading.t_ns for reading in late if reading.source == "gpu1" and reading.metric == "power_w"}) >= 88
    assert sampler.health.trouble is None
    assert sampler.health.missed == 0
