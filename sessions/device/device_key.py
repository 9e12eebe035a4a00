"""The key of a device in the home's cache: noise floors, calibrations and bandwidths are stored under it."""

from __future__ import annotations

from probes.machine import Machine
from sessions.disk.plan import Plan


def device_key(plan: Plan, machine: Machine) -> str:
    """The GPUs and their driver, or the CPU and the threads used."""
    if plan.gpu_uuids:
        return f"{','.join(plan.gpu_uuids)} driver {machine.gpu_driver}"
    return f"{machine.cpu_model} {plan.threads} threads"
