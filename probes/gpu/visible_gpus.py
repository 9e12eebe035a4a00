"""Which GPUs a program may use (CUDA_VISIBLE_DEVICES) and which are the idlest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probes.base.reading import printable
from probes.gpu.nvml_errors import explain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from probes.gpu.gpu import Gpu
    from probes.gpu.nvml import Nvml


@dataclass(frozen=True, slots=True)
class VisibleGpu:
    """A GPU that may be used.

    position: its index within the inherited CUDA_VISIBLE_DEVICES, the one a person types.
    index: NVML's index (PCI order), the one in the telemetry's source name.
    device: what to put into CUDA_VISIBLE_DEVICES to get it: its UUID, or a MIG device's.
    """

    position: int
    index: int
    uuid: str
    name: str
    device: str
    mig: bool


@dataclass(frozen=True, slots=True)
class VisibleGpus:
    """The GPUs that may be used, in their order; `reason` says why there are none or fewer than listed, else None."""

    gpus: tuple[VisibleGpu, ...]
    reason: str | None


def visible_gpus(nvml: Nvml, environment: Mapping[str, str] | None = None) -> VisibleGpus:
    """The GPUs that CUDA_VISIBLE_DEVICES of `environment` (None: this process's) lets through, by PCI order.

    Entries are indices or (beginnings of) UUIDs, of GPUs or MIG devices. As in CUDA, the first entry that names no GPU
    ends the list, and an entry that is there twice empties it.
    """
    variables = os.environ if environment is None else environment
    all_gpus = nvml.gpus
    if not all_gpus:
        return VisibleGpus((), nvml.reason)
    listed = variables.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return VisibleGpus(tuple(_as_visible(gpu, place) for place, gpu in enumerate(all_gpus)), None)
    found: list[VisibleGpu] = []
    reason = None
    for entry in (part.strip() for part in listed.split(",")):
        one = _named(entry, nvml, all_gpus, len(found))
        if one is None:
            shown = printable(listed)
            if entry in {"", "-1"} and not found:
                reason = f"CUDA_VISIBLE_DEVICES is {shown!r}, which hides every GPU: unset it to use them"
            else:
                reason = f"CUDA_VISIBLE_DEVICES is {shown!r}, but {printable(entry)!r} names no GPU of this machine"
            break
        if any(one.device == other.device for other in found):
            shown = printable(listed)
            return VisibleGpus((), f"CUDA_VISIBLE_DEVICES is {shown!r}: it names a GPU twice, so CUDA shows none")
        found.append(one)
    return VisibleGpus(tuple(found), reason)


def idlest_gpus(nvml: Nvml, among: Iterable[VisibleGpu] | None = None) -> list[VisibleGpu]:
    """The GPUs of `among` (None: the visible ones), the idlest first.

    Responding before unresponsive, whole before MIG-partitioned, then least busy (in steps of
    10 %), then most free memory, then lowest index.
    """
    candidates = visible_gpus(nvml).gpus if among is None else tuple(among)
    by_index = {gpu.index: gpu for gpu in nvml.gpus}

    def load(candidate: VisibleGpu) -> tuple[bool, bool, float, float, int]:
        read = {reading.metric: reading.value for reading in by_index[candidate.index].occupancy()}
        used, total = read.get("memory_used_bytes"), read.get("memory_total_bytes")
        busy = read.get("utilisation_percent")
        silent = used is None or total is None
        free = 0.0 if used is None or total is None else total - used
        return (silent, candidate.mig, (busy if busy is not None else 0.0) // 10, -free, candidate.index)

    return sorted((candidate for candidate in candidates if candidate.index in by_index), key=load)


def _named(entry: str, nvml: Nvml, gpus: tuple[Gpu, ...], position: int) -> VisibleGpu | None:
    if entry.isascii() and entry.isdigit():
        return next((_as_visible(gpu, position) for gpu in gpus if gpu.index == int(entry)), None)
    if entry.startswith("MIG-"):
        return _mig_device(entry, nvml, gpus, position)
    matches = [gpu for gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry)]
    return _as_visible(matches[0], position) if len(matches) == 1 else None


def _as_visible(gpu: Gpu, position: int) -> VisibleGpu:
    return VisibleGpu(position, gpu.index, gpu.uuid, gpu.name, gpu.uuid, gpu.mig)


def _mig_device(entry: str, nvml: Nvml, gpus: tuple[Gpu, ...], position: int) -> VisibleGpu | None:
    library = nvml.library
    try:
        device = library.nvmlDeviceGetHandleByUUID(entry)
        name = printable(str(library.nvmlDeviceGetName(device)))
        parent = printable(str(library.nvmlDeviceGetUUID(library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device))))
    except Exception as error:
        name, parent = explain(error), ""
    owner = next((gpu for gpu in gpus if gpu.uuid == parent), None)
    return None if owner is None else VisibleGpu(position, owner.index, owner.uuid, name, entry, True)
