"""Which device a session runs on: the GPUs the user named, otherwise the idlest one, otherwise the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from methods.catalogue.availability import DeviceFacts
from probes.gpu.facts import gpu_facts
from probes.gpu.gpu import Gpu
from probes.gpu.nvml import Nvml
from probes.gpu.visible_gpus import VisibleGpu, idlest_gpus, visible_gpus
from probes.host.cgroup import CgroupLimits, cgroup_limits, cgroup_memory_left
from probes.host.free_memory import free_memory
from sessions.device.affinity import physical_cores, shared_out


class DeviceError(Exception):
    """The requested device does not exist; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Device:
    """`spec` is "cpu" or GPU indices ("0,1") within an inherited CUDA_VISIBLE_DEVICES.

    For those GPUs: `uuids`, what CUDA_VISIBLE_DEVICES has to say (`visible`: UUIDs, or MIG devices), and their names as
    sources of telemetry.
    """

    spec: str
    uuids: tuple[str, ...]
    visible: tuple[str, ...]
    sources: tuple[str, ...]
    name: str
    facts: DeviceFacts


def cpu() -> Device:
    """The CPU, with the memory that is free now."""
    known = [amount for amount in (free_memory(), cgroup_memory_left()) if amount is not None]
    return Device("cpu", (), (), (), "CPU", DeviceFacts("cpu", free_bytes=min(known, default=None)))


def choose(asked: str | None, nvml: Nvml, wide: int = 1) -> Device:
    """The device for `--device`: "cpu", indices as in "0" or "0,1", or None for the idlest `wide` GPUs, else the CPU.

    Raises DeviceError with a sentence that says which GPUs there are.
    """
    if asked == "cpu":
        return cpu()
    seen = visible_gpus(nvml)
    if asked is None:
        idle = sorted(idlest_gpus(nvml, seen.gpus)[:wide], key=lambda gpu: gpu.position)
        return _gpus(nvml, ",".join(str(gpu.position) for gpu in idle), idle) if idle else cpu()
    try:
        positions = [int(part) for part in asked.split(",")]
    except ValueError:
        raise DeviceError(f"--device {asked} is not a device: use cpu, or GPU indices such as 0 or 0,1.") from None
    known = {gpu.position: gpu for gpu in seen.gpus}
    if not known:
        why = seen.reason or "none is visible"
        raise DeviceError(f"--device {asked}: no GPU is available ({why}); use --device cpu.")
    if twice := [position for place, position in enumerate(positions) if position in positions[:place]]:
        raise DeviceError(f"--device {asked} names GPU {twice[0]} twice: name each once.")
    if any(position not in known for position in positions):
        listed = ", ".join(str(position) for position in known)
        raise DeviceError(f"--device {asked} does not match the GPUs here ({listed}).")
    return _gpus(nvml, asked, [known[position] for position in positions])


def _gpus(nvml: Nvml, spec: str, chosen: list[VisibleGpu]) -> Device:
    by_index = {gpu.index: gpu for gpu in nvml.gpus}
    facts = gpu_facts(by_index[chosen[0].index])
    free = [_free_bytes(by_index[gpu.index]) for gpu in chosen]
    known = [value for value in free if value is not None]
    return Device(
        spec,
        tuple(gpu.uuid for gpu in chosen),
        tuple(gpu.device for gpu in chosen),
        tuple(f"gpu{gpu.index}" for gpu in chosen),
        ", ".join(gpu.name for gpu in chosen),
        DeviceFacts(
            "cuda",
            chosen[0].name,
            nvml.driver,
            facts.compute_capability,
            min(known) if len(known) == len(free) else None,
        ),
    )


def _free_bytes(gpu: Gpu) -> int | None:
    read = {reading.metric: reading.value for reading in gpu.occupancy()}
    total, used = read.get("memory_total_bytes"), read.get("memory_used_bytes")
    return int(total - used) if total is not None and used is not None else None


def default_threads(limits: Callable[[], CgroupLimits] = cgroup_limits, lanes: int = 1) -> int:
    """The thread count that every method of a session gets: the runner's physical cores, or the CPUs that a control
    group's quota is worth where these are fewer, since threads beyond it only wait for the others; shared out among
    `lanes`."""
    cores = len(physical_cores(shared_out().runner))
    quota = limits().cpus
    return max(1, (cores if quota is None else min(cores, int(quota))) // lanes)
