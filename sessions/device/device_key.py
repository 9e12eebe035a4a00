"""What names a device in the home's cache: noise floors, calibrations and bandwidths are kept by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def device_key(plan: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """The GPUs and their driver, or the CPU and the threads used."""
    uuids = plan.get("gpu_uuids")
    if isinstance(uuids, list) and uuids:
        return f"{','.join(map(str, uuids))} driver {machine.get('gpu_driver')}"
    return f"{machine.get('cpu_model')} {plan.get('threads')} threads"
