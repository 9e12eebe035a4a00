"""Which of the runner's cores each lane gets: on the CPU an even share, beside GPUs one of those that are near them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from probes.base.cpu_list import listed
from probes.machine import Machine
from sessions.device.affinity import physical_cores, shares, siblings_of
from sessions.disk.plan import Plan

NEAR: Final = "Each round has cores near its GPUs: {places}."
EVEN: Final = "Each round has an even share of the cores, not those near its GPUs: {why}."


@dataclass(frozen=True, slots=True)
class LaneCores:
    """The logical CPUs of each lane, and a sentence on how they lie to its GPUs; "" on the CPU, or where there is one
    lane."""

    lanes: Sequence[frozenset[int]]
    said: str = ""


def lane_cores(
    plan: Plan, machine: Machine, cpus: frozenset[int], siblings: Callable[[int], frozenset[int]] = siblings_of
) -> LaneCores:
    """How `cpus`, the runner's, are shared out among the plan's lanes.

    Lanes near the same cores share those out. Where it is not known which are near, these overlap, or a lane would get
    less than half of an even share, all get an even share.
    """
    even = shares(cpus, plan.lanes, siblings)
    if plan.lanes == 1 or not plan.gpu_sources:
        return LaneCores(even)
    sources = [plan.gpu_sources[plan.gpus_of_lane(lane)] for lane in range(plan.lanes)]
    try:
        near = [cpus & frozenset().union(*(_near(source, machine) for source in own)) for own in sources]
        lanes = _shared_out(near, sources, len(physical_cores(cpus, siblings)), siblings)
    except _UndividedError as error:
        return LaneCores(even, EVEN.format(why=error))
    places = [f"{' and '.join(own)} CPUs {listed(part)}" for own, part in zip(sources, lanes, strict=True)]
    return LaneCores(lanes, NEAR.format(places="; ".join(places)))


class _UndividedError(Exception):
    """The cores cannot be shared out by what they are near; the text says why."""


def _near(source: str, machine: Machine) -> frozenset[int]:
    gpu = next((gpu for gpu in machine.gpus if gpu.source == source), None)
    if gpu is None or gpu.near_cpus is None:
        reason = gpu.missing.get("near_cpus") if gpu is not None else None
        raise _UndividedError(f"which are near {source} is not known" + (f" ({reason})" if reason else ""))
    return frozenset(gpu.near_cpus)


def _shared_out(
    near: Sequence[frozenset[int]],
    sources: Sequence[Sequence[str]],
    physical: int,
    siblings: Callable[[int], frozenset[int]],
) -> list[frozenset[int]]:
    """Each lane's part of the cores that are near it; there are so many `physical` ones in all."""
    groups = dict.fromkeys(near)
    if sum(map(len, groups)) > len(frozenset().union(*groups)):
        raise _UndividedError("those near one round's are in part those near another's")
    least = max(1.0, physical / len(near) / 2)
    lanes = list(near)
    for group in groups:
        members = [lane for lane, own in enumerate(near) if own == group]
        if len(physical_cores(group, siblings)) < least * len(members):
            names = ", ".join(source for lane in members for source in sources[lane])
            raise _UndividedError(f"too few are near {names}")
        for lane, part in zip(members, shares(group, len(members), siblings), strict=True):
            lanes[lane] = part
    return lanes
