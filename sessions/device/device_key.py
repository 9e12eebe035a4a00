"""What names a device in the home's cache: noise floors, calibrations and bandwidths are kept by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.machine import Machine


def device_key(plan: Mapping[str, Any], machine: Machine) -> str:
    """The GPUs and their driver, or the CPU and the threads used."""
    uuids = plan.get("gpu_uuids")
    if isinstance(uuids, list) and uuids:
        return f"{','.join(map(str, uuids))} driver {machine.gpu_driver}"
    return f"{machine.cpu_model} {plan.get('threads')} threads"
