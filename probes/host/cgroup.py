"""What a control group puts on this process, as a container's does: limits, and how often they were met.

Version 2 has one tree; version 1 has one for each controller, mounted under its name. In both, the group of the process
and those above it count, as far up as can be seen from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NOT_MOUNTED: Final = "neither version 2 nor version 1 of cgroups is mounted here"
NO_LIMIT_BYTES: Final = 2**60  # version 1 writes a number of about 2**63 where there is none
MEMORY_USED: Final = ("memory.current", "memory.usage_in_bytes")
RECLAIMABLE: Final = ("inactive_file", "total_inactive_file")


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """The tightest limits from this process's group up to the root.

    memory_bytes, cpus (cores' worth of time): None where there is no limit or `missing` says why it could not be read.
    folder: the group that accounts for the memory, None where there is none.
    """

    folder: Path | None
    memory_bytes: int | None
    cpus: float | None
    missing: str | None

    def memory_used_file(self) -> Path | None:
        """The file with the bytes that the group uses; None where there is none."""
        folder = self.folder
        return folder and next((folder / name for name in MEMORY_USED if os.path.isfile(folder / name)), None)


@dataclass(frozen=True, slots=True)
class CgroupCounts:
    """What the kernel has counted so far: periods at whose end the CPU quota was used up, for how many seconds threads
    waited then (summed over CPUs), and how often an allocation met the memory limit."""

    throttled_periods: int = 0
    throttled_s: float = 0.0
    memory_limit_hits: int = 0


def cgroup_limits(root: Path = Path("/")) -> CgroupLimits:
    """Read the limits of this process under `root` (another one in tests). Raises nothing."""
    found = _groups(root)
    if isinstance(found, str):
        return CgroupLimits(None, None, None, found)
    memory = [limit for group in found.memory if (limit := _memory_limit(group)) is not None]
    cpus = [worth for group in found.cpu if (worth := _cpu_limit(group)) is not None]
    folder = next(iter(found.memory), None)
    return CgroupLimits(folder, min(memory, default=None), min(cpus, default=None), None)


def cgroup_counts(root: Path = Path("/")) -> CgroupCounts:
    """Read the counters of this process's groups, added up; zeros where there are none. Raises nothing."""
    found = _groups(root)
    if isinstance(found, str):
        return CgroupCounts()
    cpu = [_table(group / "cpu.stat") for group in found.cpu]
    waited = sum(each.get("throttled_usec", 0) * 1000 + each.get("throttled_time", 0) for each in cpu)
    hits = [
        _number(group / "memory.failcnt") or _table(group / "memory.events").get("max", 0) for group in found.memory
    ]
    return CgroupCounts(sum(each.get("nr_throttled", 0) for each in cpu), waited / 1e9, sum(hits))


def cgroup_memory_left(root: Path = Path("/")) -> int | None:
    """Bytes that the groups still allow, file pages that the kernel would drop left out; None without a limit."""
    found = _groups(root)
    left = []
    for group in () if isinstance(found, str) else found.memory:
        limit = _memory_limit(group)
        used = next((count for name in MEMORY_USED if (count := _number(group / name)) is not None), None)
        if limit is not None and used is not None:
            kept = _table(group / "memory.stat")
            left.append(max(0, limit - used + max(kept.get(name, 0) for name in RECLAIMABLE)))
    return min(left, default=None)


@dataclass(frozen=True, slots=True)
class _Groups:
    """The folders of this process's group and of those above it, the own one first."""

    memory: tuple[Path, ...]
    cpu: tuple[Path, ...]


def _groups(root: Path) -> _Groups | str:
    """The groups, or why there are none."""
    mount = root / "sys/fs/cgroup"
    version_2 = os.path.isfile(mount / "cgroup.controllers")
    if not version_2 and not any(os.path.isdir(mount / name) for name in ("memory", "cpu")):
        return NOT_MOUNTED
    try:
        text = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        return f"cannot read the control group of this process: {error.strerror}"
    of = {tuple(names.split(",")): path for _, names, path in _lines(text)}
    if version_2:
        path = of.get(("",))
        if path is None:
            return "this process is not in a version 2 cgroup"
        both = tuple(_upwards(mount, path))
        return _Groups(both, both)
    trees = []
    for controller in ("memory", "cpu"):
        names = next((names for names in of if controller in names), ())
        folders = [mount / place for place in (",".join(names), controller) if names]
        tree = next((folder for folder in folders if os.path.isdir(folder)), None)
        trees.append(tuple(_upwards(tree, of[names])) if tree is not None else ())
    return _Groups(*trees) if any(trees) else "this process is in no cgroup of version 1"


def _lines(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if colon:
            yield number, names, path


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    folder = mount / path.lstrip("/")
    if not os.path.isdir(folder):
        folder = mount  # in a container the path may be the host's, while its own group is what is mounted
    yield folder
    yield from (group for group in folder.parents if group.is_relative_to(mount))


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _number(group / name)
        if limit is not None:
            return limit if limit < NO_LIMIT_BYTES else None
    return None


def _cpu_limit(group: Path) -> float | None:
    """Cores' worth of time."""
    match _words(group / "cpu.max") or [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us")]:
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            return int(quota) / int(period)
    return None


def _number(file: Path) -> int | None:
    match _words(file):
        case [number] if number.isdecimal():
            return int(number)
    return None


def _table(file: Path) -> dict[str, int]:
    """The file's `name number` lines."""
    words = _words(file)
    return {name: int(value) for name, value in zip(words[::2], words[1::2], strict=False) if value.isdecimal()}


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):  # the root group has no such files
        return []
