"""Which CPUs are near a GPU: those of the processor that its PCIe bus leads to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from probes.base.cpu_list import cpus_of
from probes.gpu.nvml_errors import explain

DEVICES: Final = Path("/sys/bus/pci/devices")
WORD_BITS: Final = 64
WORDS: Final = 64  # 4096 CPUs


class UnknownError(Exception):
    """Neither the driver nor the kernel tells; the text is the driver's reason."""


def near_cpus(nvml: Any, handle: object, bus_id: str | None, devices: Path = DEVICES) -> tuple[int, ...]:
    """The logical CPUs as the driver tells, else the kernel. Raises UnknownError."""
    reason = "the driver names none"
    try:
        words = nvml.nvmlDeviceGetCpuAffinity(handle, WORDS)
        cpus = [
            place * WORD_BITS + bit for place, word in enumerate(words) for bit in range(WORD_BITS) if word >> bit & 1
        ]
    except Exception as error:  # whatever a driver raises
        cpus, reason = [], explain(error)
    return tuple(cpus) or _of_the_kernel(bus_id, devices, reason)


def _of_the_kernel(bus_id: str | None, devices: Path, reason: str) -> tuple[int, ...]:
    if bus_id is None:
        raise UnknownError(reason)
    address = bus_id.lower().removeprefix("0000")  # NVML writes a domain of eight digits, the kernel of four
    try:
        return tuple(cpus_of((devices / address / "local_cpulist").read_text().strip()))
    except (OSError, ValueError):
        raise UnknownError(reason) from None
