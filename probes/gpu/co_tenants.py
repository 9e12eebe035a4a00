"""Other programs competing for this machine, which make a measurement less reliable."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from probes.base.answer import answer
from probes.base.reading import printable
from probes.gpu.foreign_processes import descends_from
from probes.gpu.nvml_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from probes.gpu.nvml import Nvml


@dataclass(frozen=True, slots=True)
class BusyProcess:
    """A process and its CPU use over the window, in percent of one core."""

    pid: int
    name: str
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class GpuTenant:
    """A process with a compute context on a GPU. `name` is None if the PID is not of this PID namespace."""

    gpu_uuid: str
    pid: int
    name: str | None
    used_bytes: int | None


@dataclass(frozen=True, slots=True)
class GpuTenants:
    """The processes found, and for a GPU that could not be asked (by UUID) the reason."""

    tenants: tuple[GpuTenant, ...]
    missing: dict[str, str]


def busy_processes(
    ours: Collection[int] = (),
    window_s: float = 0.5,
    above_percent: float = 20.0,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[BusyProcess, ...]:
    """The processes that used more than `above_percent` of one core in the next `window_s` seconds, busiest first.

    Processes in `ours` and their descendants do not count. Blocks for the window; meant for before a block, not during.
    """
    began = time.perf_counter()
    before = answer(lambda: {process: _cpu_s(process) for process in psutil.process_iter()}) or {}
    wait(window_s)
    elapsed = time.perf_counter() - began
    found = []
    for process, first in before.items():
        last = _cpu_s(process)
        if first is None or last is None or elapsed <= 0:
            continue
        share = (last - first) / elapsed * 100
        if share > above_percent and not descends_from(process, ours):
            with contextlib.suppress(psutil.Error, OSError):
                found.append(BusyProcess(process.pid, printable(process.name()), share))
    return tuple(sorted(found, key=lambda busy: -busy.cpu_percent))


def gpu_tenants(nvml: Nvml, uuids: Collection[str], ours: Collection[int] = ()) -> GpuTenants:
    """The processes on the GPUs in `uuids` that are not in `ours` nor descend from it.

    In a container NVML gives the host's PIDs: then even our own processes show, without a name.
    """
    found: list[GpuTenant] = []
    missing: dict[str, str] = {}
    for gpu in nvml.gpus:
        if gpu.uuid not in uuids:
            continue
        try:
            processes = gpu.compute_processes()
        except Exception as error:  # whatever the driver answered, the other GPUs can still be asked
            missing[gpu.uuid] = explain(error)
            continue
        for process in processes:
            name = None
            with contextlib.suppress(psutil.Error, OSError, ValueError, OverflowError):
                known = psutil.Process(process.pid)
                if descends_from(known, ours):
                    continue
                name = printable(known.name())
            found.append(GpuTenant(gpu.uuid, process.pid, name, process.used_bytes))
    return GpuTenants(tuple(found), missing)


def _cpu_s(process: psutil.Process) -> float | None:
    times = answer(process.cpu_times)
    return float(times.user + times.system) if times is not None else None
