"""A GPU's static facts: read once, for the machine capture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from probes.base.reading import printable
from probes.gpu.link import GpuLink
from probes.gpu.near_cpus import UnknownError, near_cpus
from probes.gpu.nvml_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from probes.gpu.gpu import Gpu

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """A GPU's static data. None: not told, and `missing` has the reason under the field's name.

    source, uuid: what ties the telemetry's `gpu0` to the device. compute_capability: "9.0". memory_bandwidth_bytes_s is
    the theoretical one, 2 × memory clock × bus width / 8 (both edges of the clock carry data), not a measured one.
    near_cpus are the logical CPUs of the processor that its bus leads to. links are those to the GPUs after this one.
    missing also lists the telemetry's metrics that this GPU does not report; notes says what to know of the others.
    """

    source: str = ""
    uuid: str = ""
    name: str = ""
    pci_bus_id: str | None = None
    compute_capability: str | None = None
    memory_total_bytes: int | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: int | None = None
    max_memory_clock_mhz: int | None = None
    memory_bus_width_bits: int | None = None
    memory_bandwidth_bytes_s: float | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    mig: bool = False
    persistence: bool | None = None
    ecc: bool | None = None
    near_cpus: tuple[int, ...] | None = None
    links: tuple[GpuLink, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def gpu_facts(gpu: Gpu) -> GpuFacts:
    """Ask for everything once (some calls take over a millisecond). Raises nothing."""
    nvml, handle = gpu.library, gpu.handle
    missing = dict(gpu.missing)

    def ask(name: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception as error:  # any fact may be missing on its own
            missing[name] = str(error) if isinstance(error, UnknownError) else explain(error)
            return None

    address = ask("pci_bus_id", lambda: bus_id(nvml.nvmlDeviceGetPciInfo(handle)))
    clock = ask("max_memory_clock_mhz", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM)))
    width = ask("memory_bus_width_bits", lambda: int(nvml.nvmlDeviceGetMemoryBusWidth(handle)))
    bandwidth = None
    if clock and width:
        bandwidth = 2 * clock * 1e6 * width / 8
    else:
        missing["memory_bandwidth_bytes_s"] = "needs the memory clock and the bus width"
    return GpuFacts(
        source=gpu.source,
        uuid=gpu.uuid,
        name=gpu.name,
        pci_bus_id=address,
        compute_capability=ask("compute_capability", lambda: _dotted(nvml.nvmlDeviceGetCudaComputeCapability(handle))),
        memory_total_bytes=ask("memory_total_bytes", lambda: int(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
        power_limit_w=ask("power_limit_w", lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000),
        max_sm_clock_mhz=ask(
            "max_sm_clock_mhz", lambda: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM))
        ),
        max_memory_clock_mhz=clock,
        memory_bus_width_bits=width,
        memory_bandwidth_bytes_s=bandwidth,
        pcie_generation=ask("pcie_generation", lambda: int(nvml.nvmlDeviceGetCurrPcieLinkGeneration(handle))),
        pcie_generation_max=ask("pcie_generation_max", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkGeneration(handle))),
        pcie_width=ask("pcie_width", lambda: int(nvml.nvmlDeviceGetCurrPcieLinkWidth(handle))),
        pcie_width_max=ask("pcie_width_max", lambda: int(nvml.nvmlDeviceGetMaxPcieLinkWidth(handle))),
        mig=gpu.mig,
        persistence=ask("persistence", lambda: bool(nvml.nvmlDeviceGetPersistenceMode(handle))),
        ecc=ask("ecc", lambda: bool(nvml.nvmlDeviceGetEccMode(handle)[0])),
        near_cpus=ask("near_cpus", lambda: near_cpus(nvml, handle, address)),
        missing=missing,
        notes=dict(gpu.notes),
    )


def bus_id(information: Any) -> str:
    """The address in what NVML tells of a PCI device."""
    text = information.busId
    return printable(text.decode("ascii", "replace") if isinstance(text, bytes) else str(text))


def _dotted(capability: tuple[int, int]) -> str:
    major, minor = capability
    return f"{major}.{minor}"
