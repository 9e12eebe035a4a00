"""The energy counters of a block's GPUs at an edge of it."""

from __future__ import annotations

import time

from probes.gpu.nvml import Nvml
from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.records import Energy


def energy_at(block: PlannedBlock, edge: str, nvml: Nvml, plan: Plan, place: int | None = None) -> Energy:
    """The sum of the counters now, in joules, or why there is none; a block's joules are the difference of two, and so
    are those of the point at a `place`.
    """
    joules: float | None = None
    reason = "no GPU is used: a CPU session has no energy counter that may be read"
    if plan.gpu_uuids:
        readings = nvml.energy_now(plan.gpu_uuids[plan.gpus_of(block.method, block.block)])
        values = [reading.value for reading in readings if reading.value is not None]
        if readings and len(values) == len(readings):
            joules, reason = sum(values), ""
        else:
            reason = next((reading.status for reading in readings if reading.value is None), "no reading from NVML")
    return Energy(
        t=time.perf_counter_ns(),
        method=block.method,
        block=block.block,
        edge=edge,
        energy_j=joules,
        reason=reason,
        place=place,
    )
