"""The machine's facts: what a session keeps of where it ran."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from probes.gpu.facts import GpuFacts
from probes.gpu.link import GpuLink


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One of the first core's caches. kind: "Data", "Instruction" or "Unified"; shared_by: logical CPUs, "0-3"."""

    level: int
    kind: str
    size_bytes: int
    shared_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a result depends on besides the method. None: unknown, or no limit; `missing` has the reason if unknown.

    cores_*: of the machine; affinity: the logical CPUs this process may use. cgroup_*: a container's limits.
    rapl: whether the CPU's energy counters can be read (kasoku does not sample them). Every field has a default, so
    that what another version captured, or none has yet, reads as well.
    """

    hostname: str = ""
    boot_id: str | None = None
    os: str = ""
    kernel: str = ""
    architecture: str = ""
    hypervisor: str | None = None
    container: str | None = None
    cpu_model: str | None = None
    cores_physical: int | None = None
    cores_logical: int | None = None
    affinity: tuple[int, ...] = ()
    governor: str | None = None
    cpu_max_mhz: float | None = None
    caches: tuple[Cache, ...] = ()
    numa_nodes: int | None = None
    ram_total_bytes: int | None = None
    swap_total_bytes: int | None = None
    cgroup_memory_bytes: int | None = None
    cgroup_cpus: float | None = None
    rapl: str = ""
    gpu_driver: str | None = None
    cuda_driver: str | None = None
    gpus: tuple[GpuFacts, ...] = ()
    cuda_visible_devices: str | None = None
    python: str = ""
    missing: dict[str, str] = field(default_factory=dict)

    def links(self, among: Collection[str] | None = None) -> list[GpuLink]:
        """The links between any two of these GPUs, None: of all."""
        known = (link for gpu in self.gpus for link in gpu.links)
        return [link for link in known if among is None or set(link.between) <= set(among)]

    def limits(self) -> str:
        """What a control group leaves of the machine, as in "0.5 of 8 CPUs"; "" if all."""
        kept = []
        if self.cgroup_cpus is not None and self.cgroup_cpus < (self.cores_logical or math.inf):
            of = f" of {self.cores_logical}" if self.cores_logical else ""
            kept.append(f"{self.cgroup_cpus:g}{of} CPUs")
        if self.cgroup_memory_bytes is not None and self.cgroup_memory_bytes < (self.ram_total_bytes or math.inf):
            of = f" of {self.ram_total_bytes / 1e9:.1f}" if self.ram_total_bytes else ""
            kept.append(f"{self.cgroup_memory_bytes / 1e9:.1f}{of} GB of memory")
        return " and ".join(kept)
