"""The capture of the machine as it stands: once a session, every gap with its reason."""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from probes.base.answer import answer
from probes.base.clock import boot_id
from probes.base.reading import printable
from probes.gpu.facts import gpu_facts
from probes.gpu.links import with_links
from probes.host.allowed_cpus import allowed_cpus
from probes.host.cgroup import cgroup_limits
from probes.machine import Cache, Machine

if TYPE_CHECKING:
    from probes.gpu.nvml import Nvml

NOT_TOLD: Final = "not reported by this system"
CONTAINER_FILES: Final = {".dockerenv": "docker", "run/.containerenv": "podman"}
CONTAINER_GROUPS: Final = ("kubepods", "docker", "lxc", "containerd", "libpod")


def capture(nvml: Nvml, root: Path = Path("/")) -> Machine:
    """Read the machine, GPUs included (starts NVML). `root` stands for / in tests. Raises nothing."""
    missing: dict[str, str] = {}

    def found(name: str, value: Any, reason: str = NOT_TOLD) -> Any:
        if value is None:
            missing[name] = reason
        return value

    information = _fields(root / "proc/cpuinfo")
    limits = cgroup_limits(root)
    if limits.missing:
        missing |= {"cgroup_memory_bytes": limits.missing, "cgroup_cpus": limits.missing}
    gpus = with_links(nvml.gpus, [gpu_facts(gpu) for gpu in nvml.gpus])
    if nvml.reason:
        missing["gpus"] = nvml.reason
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    policy = "this machine exposes no frequency scaling, as is usual for virtual machines"
    max_khz = _number(frequency / "cpuinfo_max_freq")
    caches = _caches(root / "sys/devices/system/cpu/cpu0/cache")
    if not caches:
        missing["caches"] = NOT_TOLD
    rapl = _rapl(root)
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if rapl.startswith("unavailable"):
        missing["rapl"] = rapl
    return Machine(
        hostname=printable(answer(socket.gethostname) or ""),
        boot_id=found("boot_id", boot_id(root)),
        os=_os(root),
        kernel=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        hypervisor=_hypervisor(root, information),
        container=_container(root),
        cpu_model=found("cpu_model", information.get("model name") or platform.processor() or None),
        cores_physical=found("cores_physical", answer(lambda: psutil.cpu_count(logical=False))),
        cores_logical=found("cores_logical", answer(psutil.cpu_count)),
        affinity=tuple(sorted(allowed_cpus())),
        governor=found("governor", _line(frequency / "scaling_governor"), policy),
        cpu_max_mhz=found("cpu_max_mhz", max_khz / 1000 if max_khz else None, policy),
        caches=caches,
        numa_nodes=found("numa_nodes", len(list(root.glob("sys/devices/system/node/node[0-9]*"))) or None),
        ram_total_bytes=found("ram_total_bytes", _kibibytes(root, "MemTotal")),
        swap_total_bytes=found("swap_total_bytes", _kibibytes(root, "SwapTotal")),
        cgroup_memory_bytes=limits.memory_bytes,
        cgroup_cpus=limits.cpus,
        rapl=rapl,
        gpu_driver=found("gpu_driver", nvml.driver, nvml.reason or NOT_TOLD),
        cuda_driver=found("cuda_driver", nvml.cuda_driver, nvml.reason or NOT_TOLD),
        gpus=gpus,
        cuda_visible_devices=None if listed is None else printable(listed),
        python=f"{platform.python_implementation()} {'.'.join(str(part) for part in sys.version_info[:3])}",
        missing=missing,
    )


def _line(file: Path) -> str | None:
    try:
        text = file.read_text(errors="replace").strip()
    except OSError:
        return None
    return printable(text) or None


def _number(file: Path) -> int | None:
    text = _line(file)
    return int(text) if text is not None and text.isascii() and text.isdigit() else None


def _fields(file: Path) -> dict[str, str]:
    """The first value of each `name : value` line."""
    fields: dict[str, str] = {}
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return fields
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def _kibibytes(root: Path, name: str) -> int | None:
    words = _fields(root / "proc/meminfo").get(name, "").split()
    return int(words[0]) * 1024 if words and words[0].isdigit() else None


def _os(root: Path) -> str:
    try:
        lines = (root / "etc/os-release").read_text(errors="replace").splitlines()
    except OSError:
        return platform.system()
    names = [line.partition("=")[2].strip("\"'") for line in lines if line.startswith("PRETTY_NAME=")]
    return printable(names[0]) if names else platform.system()


def _hypervisor(root: Path, information: dict[str, str]) -> str | None:
    """Its name, "unnamed", or None on bare metal."""
    kind = _line(root / "sys/hypervisor/type")
    if kind:
        return kind
    if "hypervisor" not in information.get("flags", "").split():
        return None
    names = (_line(root / "sys/class/dmi/id" / file) for file in ("sys_vendor", "product_name"))
    return " ".join(name for name in names if name) or "unnamed"


def _container(root: Path) -> str | None:
    """What kind of container this is, None outside of one."""
    named = os.environ.get("container")  # noqa: SIM112 (systemd's name for it)
    if named:
        return printable(named)
    for file, kind in CONTAINER_FILES.items():
        if os.path.exists(root / file):
            return kind
    try:
        groups = (root / "proc/1/cgroup").read_text(errors="replace")
    except OSError:
        return None
    return next((word for word in CONTAINER_GROUPS if word in groups), None)


def _caches(folder: Path) -> tuple[Cache, ...]:
    units = {"K": 1024, "M": 1024**2}
    caches = []
    for index in sorted(folder.glob("index[0-9]*")):
        level, kind, size = _number(index / "level"), _line(index / "type"), _line(index / "size")
        if level is not None and kind and size and size[:-1].isdigit() and size[-1] in units:
            shared = _line(index / "shared_cpu_list") or ""
            caches.append(Cache(level=level, kind=kind, size_bytes=int(size[:-1]) * units[size[-1]], shared_by=shared))
    return tuple(caches)


def _rapl(root: Path) -> str:
    counters = list(root.glob("sys/class/powercap/*rapl:*/energy_uj"))
    if not counters:
        return "unavailable: this machine exposes no RAPL counters"
    if not any(os.access(counter, os.R_OK) for counter in counters):
        return "unavailable: needs root"
    return "readable, not sampled"
