"""The key of a device in the home's cache: noise floors, calibrations and bandwidths are stored under it."""

from __future__ import annotations

import math

from probes.machine import Machine
from sessions.disk.plan import Plan


def device_key(plan: Plan, machine: Machine) -> str:
    """The GPUs and their driver, or the CPU and the threads used; with the CPU quota, where it is one."""
    if plan.gpu_uuids:
        return f"{','.join(plan.gpu_uuids)} driver {machine.gpu_driver}"
    quota = machine.cgroup_cpus
    limited = f" limited to {quota:g} CPUs" if quota is not None and quota < (machine.cores_logical or math.inf) else ""
    return f"{machine.cpu_model} {plan.threads} threads{limited}"
