"""What a process tree and the whole machine have spent of CPU time, looked at ten times a second by a thread."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from probes.host.descendants import descendants
from probes.host.proc_files import TICKS_A_SECOND, parse_stat

EVERY_S: Final = 0.1
IDLE: Final = (3, 4)  # in a line of /proc/stat: idle, and waiting for a disk
OF_A_GUEST: Final = 8  # from there on: counted in the user's time already


class Spent(NamedTuple):
    """Seconds of CPU time."""

    tree: float
    machine: float


class CpuLog:
    """Of the process `pid` and its descendants, as long as the body of `with` lasts."""

    def __init__(self, pid: int) -> None:
        self._pid, self._over = pid, threading.Event()
        self._rows: list[tuple[int, float, float]] = []
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> CpuLog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, begin_ns: int, end_ns: int) -> Spent:
        """From one moment to another, both on the clock `time.perf_counter_ns`."""
        times, tree, machine = np.array(self._rows).T
        return Spent(*(float(np.diff(np.interp([begin_ns, end_ns], times, each))[0]) for each in (tree, machine)))

    def _watch(self) -> None:
        while not self._over.wait(EVERY_S):
            tree = sum(map(cpu_s_of, (self._pid, *descendants([self._pid]))))
            self._rows.append((time.perf_counter_ns(), tree, machine_s()))


def cpu_s_of(pid: int) -> float:
    """A process's user and system time; 0 if it is gone."""
    try:
        return parse_stat(Path(f"/proc/{pid}/stat").read_bytes()).cpu_s
    except (OSError, ValueError, IndexError):
        return 0.0


def machine_s() -> float:
    """The time that all CPUs together have not been idle since the machine was started."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:][:OF_A_GUEST]]
    return (sum(ticks) - sum(ticks[place] for place in IDLE)) / TICKS_A_SECOND
