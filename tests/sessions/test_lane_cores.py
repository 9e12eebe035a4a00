"""Which cores each lane of a session that spreads has."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from probes.gpu.facts import GpuFacts
from probes.machine import Machine
from sessions.device.lane_cores import LaneCores, lane_cores
from sessions.disk.plan import Plan

CORES = frozenset(range(16))
FIRST, SECOND = tuple(range(8)), tuple(range(8, 16))


def shared(lanes: int, near: Sequence[Sequence[int] | None], cpus: frozenset[int] = CORES) -> LaneCores:
    """Of GPUs that are near these CPUs, on a machine without hardware threads."""
    sources = [f"gpu{number}" for number in range(len(near))]
    plan = Plan(spread=lanes if lanes > 1 else None, gpu_sources=sources, gpu_uuids=sources)
    gpus = tuple(
        GpuFacts(
            source=source,
            near_cpus=None if own is None else tuple(own),
            missing={"near_cpus": "not supported"} if own is None else {},
        )
        for source, own in zip(sources, near, strict=True)
    )
    return lane_cores(plan, Machine(gpus=gpus), cpus, lambda cpu: frozenset({cpu}))


def listed(found: LaneCores) -> list[list[int]]:
    return [sorted(lane) for lane in found.lanes]


def test_each_lane_has_those_that_are_near_its_gpus() -> None:
    found = shared(2, [SECOND, FIRST])
    assert listed(found) == [list(SECOND), list(FIRST)]
    assert found.said == "Each round has cores near its GPUs: gpu0 CPUs 8-15; gpu1 CPUs 0-7."


def test_lanes_near_the_same_ones_share_them_out() -> None:
    found = shared(4, [FIRST, SECOND, FIRST, SECOND])
    assert listed(found) == [[0, 1, 2, 3], [8, 9, 10, 11], [4, 5, 6, 7], [12, 13, 14, 15]]
    assert listed(shared(2, [FIRST, FIRST, SECOND, SECOND])) == [list(FIRST), list(SECOND)]
    assert listed(shared(2, [FIRST, SECOND, FIRST, SECOND])) == [list(FIRST), list(SECOND)]  # both near both: even


def test_what_is_kept_for_the_workbench_is_no_lanes() -> None:
    assert listed(shared(2, [FIRST, SECOND], frozenset(range(14)))) == [list(FIRST), list(range(8, 14))]


@pytest.mark.parametrize(
    ("near", "why"),
    [
        ([FIRST, None], "which are near gpu1 is not known (not supported)"),
        ([FIRST, range(16)], "those near one round's are in part those near another's"),
        ([FIRST, [16, 17]], "too few are near gpu1"),
        ([FIRST, [8, 9, 10]], "too few are near gpu1"),
    ],
)
def test_where_they_cannot_be_divided_so_all_have_an_even_share_and_it_is_said(
    near: Sequence[Sequence[int] | None], why: str
) -> None:
    found = shared(2, near)
    assert listed(found) == [list(FIRST), list(SECOND)]
    assert found.said == f"Each round has an even share of the cores, not those near its GPUs: {why}."


def test_of_one_lane_or_none_near_a_gpu_there_is_nothing_to_say() -> None:
    assert shared(1, [FIRST]) == LaneCores([CORES])
    assert shared(2, []) == LaneCores([frozenset(FIRST), frozenset(SECOND)])
