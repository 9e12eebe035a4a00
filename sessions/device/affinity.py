"""Which CPU cores are the runner's and, if there are enough, which are reserved for the workbench.

On a machine of four or more physical cores the last one (of sixteen or more: the last two), with all its hardware
threads, is for the conductor, its sampler and the viewers; the rest is the runner's. On smaller ones all is shared.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from probes.base.cpu_list import cpus_of
from probes.host.allowed_cpus import allowed_cpus

ALLOWED: Final = allowed_cpus()  # before this process keeps itself to some of them
LEAST_CORES: Final = 4
MANY_CORES: Final = 16


@dataclass(frozen=True, slots=True)
class Cores:
    """Logical CPU numbers; both are all allowed CPUs if none are reserved."""

    workbench: frozenset[int]
    runner: frozenset[int]


def siblings_of(cpu: int) -> frozenset[int]:
    """The hardware threads of a CPU's physical core, itself included; only itself if the kernel does not say."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return frozenset(cpus_of(path.read_text().strip()))
    except (OSError, ValueError):
        return frozenset({cpu})


def physical_cores(
    cpus: frozenset[int], siblings: Callable[[int], frozenset[int]] = siblings_of
) -> list[frozenset[int]]:
    """These CPUs by their physical core, in the order of their numbers."""
    return sorted({siblings(cpu) & cpus | {cpu} for cpu in cpus}, key=min)


def shared_out(allowed: frozenset[int] = ALLOWED, siblings: Callable[[int], frozenset[int]] = siblings_of) -> Cores:
    """How the allowed CPUs are split."""
    physical = physical_cores(allowed, siblings)
    if len(physical) < LEAST_CORES:
        return Cores(allowed, allowed)
    kept = physical[-2:] if len(physical) >= MANY_CORES else physical[-1:]
    workbench = frozenset().union(*kept)
    return Cores(workbench, allowed - workbench)


def shares(
    cpus: frozenset[int], lanes: int, siblings: Callable[[int], frozenset[int]] = siblings_of
) -> list[frozenset[int]]:
    """As many disjoint shares of these CPUs, of whole physical cores next to each other; where there are fewer cores
    than that, each is all of them."""
    physical = physical_cores(cpus, siblings)
    if len(physical) < lanes:
        return [cpus] * lanes
    edges = [len(physical) * place // lanes for place in range(lanes + 1)]
    return [frozenset().union(*physical[first:last]) for first, last in pairwise(edges)]


def keep_to(cpus: frozenset[int]) -> None:
    """Pin the calling thread, and what it starts, to these CPUs; no effect if the kernel refuses."""
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, cpus)


@contextlib.contextmanager
def starting_on(cpus: frozenset[int]) -> Iterator[None]:
    """Pin what the calling thread starts within to these CPUs; the thread itself returns to its own."""
    own = allowed_cpus()
    keep_to(cpus)
    try:
        yield
    finally:
        keep_to(own)
