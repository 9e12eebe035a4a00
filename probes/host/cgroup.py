"""The limits that a control group (version 2) puts on this process: a container's memory and CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The tightest limits from this process's group up to the root.

    memory_bytes, cpus (cores' worth of time): None where there is no limit or `missing` says why it could not be read.
    folder: the group's folder, None where there is no version 2.
    """

    folder: Path | None
    memory_bytes: int | None
    cpus: float | None
    missing: str | None


def cgroup_limits(root: Path = Path("/")) -> CgroupLimits:
    """Read the limits of this process under `root` (another one in tests). Raises nothing."""
    mount = root / "sys/fs/cgroup"
    if not (mount / "cgroup.controllers").is_file():
        reason = "cgroup version 2 is not mounted here, and limits of version 1 are not read"
        return CgroupLimits(None, None, None, reason)
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        return CgroupLimits(None, None, None, f"cannot read the control group of this process: {error.strerror}")
    path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
    if path is None:
        return CgroupLimits(None, None, None, "this process is not in a version 2 cgroup")
    folder = mount / path.lstrip("/")
    if not folder.is_dir():
        folder = mount  # in a container the path may be the host's, while its own group is what is mounted
    memory: list[int] = []
    cpus: list[float] = []
    for group in (folder, *folder.parents):
        if not group.is_relative_to(mount):
            break
        match _words(group / "memory.max"):
            case [limit] if limit.isdigit():
                memory.append(int(limit))
        match _words(group / "cpu.max"):
            case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
                cpus.append(int(quota) / int(period))
    return CgroupLimits(folder, min(memory, default=None), min(cpus, default=None), None)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except (OSError, UnicodeDecodeError):  # the root group has no such files
        return []
