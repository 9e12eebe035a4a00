"""Whether a method can run on a device of this machine, before anything is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.catalogue import Needs
from methods.environments.environments import resolve


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a method's needs are checked against. kind: "cpu" or "cuda"; None: unknown, or not a GPU's."""

    kind: str
    name: str = "this CPU"
    driver: str | None = None
    compute_capability: str | None = None
    free_bytes: int | None = None


def lacking(needs: Needs, device: DeviceFacts) -> Unavailable | None:
    """The first need that the device does not meet, with the fix; None if it meets all."""
    if device.kind not in needs.devices:
        wanted = " or ".join("an NVIDIA GPU" if kind == "cuda" else "a CPU" for kind in needs.devices)
        return Unavailable(f"It runs on {wanted} only.", "")
    if needs.compiler and shutil.which("cc") is None and shutil.which("gcc") is None and shutil.which("clang") is None:
        return Unavailable("It compiles code but finds no C compiler (cc, gcc or clang) on the PATH.", "")
    if device.kind == "cuda":
        if needs.min_driver and _older(device.driver, needs.min_driver):
            return Unavailable(f"It needs NVIDIA driver {needs.min_driver} or later, not {device.driver}.", "")
        if needs.min_compute_capability and _older(device.compute_capability, needs.min_compute_capability):
            return Unavailable(
                f"It needs a GPU of compute capability {needs.min_compute_capability} or higher; {device.name} has"
                f" {device.compute_capability}.",
                "",
            )
        if needs.max_compute_capability and _older(needs.max_compute_capability, device.compute_capability):
            return Unavailable(
                f"Its kernels are made for GPUs of compute capability {needs.max_compute_capability} at most;"
                f" {device.name} has {device.compute_capability}.",
                "",
            )
    if needs.free_bytes and device.free_bytes is not None and device.free_bytes < needs.free_bytes:
        return Unavailable(
            f"It needs {needs.free_bytes / 1e9:.1f} GB of free memory; {device.name} has"
            f" {device.free_bytes / 1e9:.1f} GB.",
            "",
        )
    return None


def interpreter_for(
    needs: Needs, environments: Mapping[str, str], device: DeviceFacts, home: Path, config_folder: Path
) -> Interpreter | Unavailable:
    """The interpreter a method runs in on this device, or why it cannot run."""
    lack = lacking(needs, device)
    if lack is not None:
        return lack
    environment = environments.get(device.kind)
    if environment is None:
        return Unavailable(f"It names no environment for {'a GPU' if device.kind == 'cuda' else 'a CPU'}.", "")
    return resolve(environment, home, config_folder)


def _older(version: str | None, least: str | None) -> bool:
    """Whether a dotted version is below another; an unknown one counts as new enough."""
    if version is None or least is None:
        return False
    return [int(part) for part in version.split(".") if part.isdigit()] < [int(part) for part in least.split(".")]
