"""The host's CPU and memory: frequent readings from /proc files kept open, the rest through psutil."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psutil

from probes.base.call_budget import CallBudget
from probes.base.reading import printable
from probes.base.source import Source
from probes.base.timed_call import Call, Metric, failed, take
from probes.host.cgroup import cgroup_limits
from probes.host.proc_files import CpuTimes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from probes.base.reading import Reading
    from probes.host.cgroup import CgroupLimits

EXBIBYTE: Final = 2**60
CLOCK_SHARE: Final = 0.0001  # of the time; psutil reads a file a core for it
SLOW_TURN: Final = 7  # of ten: away from the turns at which the first GPUs' energy is read
RAM_USED: Final = Metric("ram_used_bytes", "bytes", 0, EXBIBYTE)
RAM_AVAILABLE: Final = Metric("ram_available_bytes", "bytes", 0, EXBIBYTE)
RAM_TOTAL: Final = Metric("ram_total_bytes", "bytes", 1, EXBIBYTE)
CPU: Final = Metric("cpu_percent", "percent", 0, 100)
LOAD: Final = Metric("load_1m", "processes", 0, 1e6)
CLOCK: Final = Metric("cpu_mhz", "megahertz", 1, 20_000)
GROUP_MEMORY: Final = Metric("cgroup_memory_used_bytes", "bytes", 0, EXBIBYTE)


class Host(Source):
    """CPU percent (of all cores together) at every second tick; RAM, load, CPU clock, the cgroup's memory at 1 Hz.

    `per_core` adds cpu0_percent, cpu1_percent… at 1 Hz. The first CPU percentage has no beginning and is left out.
    """

    name = "host"

    def __init__(
        self,
        now_ns: Callable[[], int] = time.perf_counter_ns,
        per_core: bool = False,
        limits: Callable[[], CgroupLimits] = cgroup_limits,
    ) -> None:
        self._now_ns = now_ns
        self._per_core = per_core
        self._limits = limits
        self._clock_budget = CallBudget(CLOCK_SHARE)
        self._times: CpuTimes | None = None
        self._cpu: list[Call] = []
        self._slow: list[Call] = []

    def open(self) -> Sequence[Reading]:
        with suppress(OSError, ValueError):  # then each reading says why there is none
            self._times = CpuTimes()
        self._cpu = [Call((CPU,), self._percent)]
        self._slow = [
            Call((RAM_USED, RAM_AVAILABLE, RAM_TOTAL), _ram),
            Call((LOAD,), lambda: (os.getloadavg()[0],)),
        ]
        if self._per_core:
            psutil.cpu_percent(None, percpu=True)
            cores = tuple(Metric(f"cpu{core}_percent", "percent", 0, 100) for core in range(psutil.cpu_count() or 1))
            self._slow.append(Call(cores, lambda: psutil.cpu_percent(None, percpu=True)))
        used = self._limits().memory_used_file()
        if used is not None:
            self._slow.append(Call((GROUP_MEMORY,), lambda: (int(used.read_text()),)))
        return ()

    def slow(self, turn: int) -> Sequence[Reading]:
        readings = self._take(self._cpu) if turn % 2 else []
        if turn % 10 != SLOW_TURN:
            return readings
        readings += self._take(self._slow)
        before = self._now_ns()
        if self._clock_budget.due(before):  # reads a file for each core: on a big machine that is milliseconds
            readings += self._take([Call((CLOCK,), _clock)])
            self._clock_budget.took(before, self._now_ns())
        return readings

    def _percent(self) -> tuple[float]:
        if self._times is None:
            self._times = CpuTimes()
        return (self._times.percent(),)

    def _take(self, calls: list[Call]) -> list[Reading]:
        readings: list[Reading] = []
        for call in calls:
            try:
                readings += take(self.name, call, self._now_ns)
            except Exception as error:  # /proc may be hidden, cut or odd in a container
                status = f"not reported by this system: {type(error).__name__}: {printable(str(error))}"
                readings += failed(self.name, call, status, self._now_ns())
        return readings


def _ram() -> tuple[int, int, int]:
    memory = psutil.virtual_memory()
    return memory.used, memory.available, memory.total


def _clock() -> tuple[float]:
    frequency = psutil.cpu_freq()
    if frequency is None:
        raise OSError("no CPU frequency in /proc or /sys")
    return (frequency.current,)
