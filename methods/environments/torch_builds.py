"""Which build of torch belongs on this machine: CUDA if NVIDIA's driver is installed, CPU otherwise."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

CPU, CUDA, AUTO = "cpu", "cuda", "auto"


def has_nvidia_driver() -> bool:
    """Whether the driver is loaded, without NVML: its files in /proc and /dev, or its library."""
    if os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/nvidiactl"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def chosen_backend(backend: str, driver: bool) -> str:
    """`auto` decided by the driver; anything else as it is."""
    return (CUDA if driver else CPU) if backend == AUTO else backend


def wants_torch(requirements: Iterable[str]) -> bool:
    """Whether torch is named among the requirements."""
    from packaging.requirements import InvalidRequirement, Requirement

    for text in requirements:
        try:
            if Requirement(text).name.lower() == "torch":
                return True
        except InvalidRequirement:
            continue
    return False


def local_wheels(folders: Iterable[str], python: tuple[int, int], requirements: Iterable[str]) -> Mapping[str, Path]:
    """torch's CPU wheels in find-links folders that fit this Python, machine and requirements, by version."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.tags import compatible_tags, cpython_tags, platform_tags
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    allowed = []
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.name.lower() == "torch":
            allowed.append(requirement.specifier)
    platforms = list(platform_tags())
    taken = {*cpython_tags(python, platforms=platforms), *compatible_tags(python, platforms=platforms)}
    wheels = {}
    for folder in folders:
        for path in sorted(Path(folder.removeprefix("file://")).glob("torch-*.whl")):
            try:
                _, version, _, tags = parse_wheel_filename(path.name)
            except InvalidWheelFilename:
                continue
            local = version.local or ""
            if local.startswith("cpu") and tags & taken and all(version in specifier for specifier in allowed):
                wheels[str(version)] = path
    return wheels


def newest(versions: Iterable[str]) -> str | None:
    """The highest version; None if there are none."""
    from packaging.version import Version

    return max(versions, key=Version, default=None)
