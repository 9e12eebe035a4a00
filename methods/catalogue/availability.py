"""Whether a method can run on a device of this machine, before anything is loaded."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from methods.base.home import CACHE
from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.catalogue import Catalogue
from methods.catalogue.method import Method, Needs
from methods.catalogue.native_code import unbuildable
from methods.environments.distributions import site_packages, versions_in
from methods.environments.environments import resolve

Find = Callable[[str], Interpreter | Unavailable]
"""The interpreter of an environment by its name, or why there is none."""


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


@dataclass(frozen=True, slots=True)
class Choice:
    """A method of the catalogue on this machine.

    `lacking` is what nothing here can fix, because the device cannot run the method; `found` is the interpreter it
    runs in, or why it cannot run now.
    """

    method: Method
    environment: str  # the one for this device; "" where it names none
    lacking: Unavailable | None
    found: Interpreter | Unavailable

    @property
    def unavailable(self) -> Unavailable | None:
        """Why it cannot run now; None where it can."""
        return self.found if isinstance(self.found, Unavailable) else None


def choices(catalogue: Catalogue, device: DeviceFacts, home: Path, config_folder: Path) -> list[Choice]:
    """Every method with its availability on a device, group by group in the catalogue's order, in milliseconds."""
    methods = list(catalogue.methods.values())
    groups = list(dict.fromkeys(method.group for method in methods))
    methods.sort(key=lambda method: groups.index(method.group))
    find = functools.cache(functools.partial(resolve, home=home, config_folder=config_folder))
    return [choice(method, device, home, find) for method in methods]


def choice(method: Method, device: DeviceFacts, home: Path, find: Find) -> Choice:
    """A method with its availability on a device, in milliseconds."""
    environment = method.environments.get(device.kind, "")
    lack = lacking(method.needs, device)
    if lack is None and not environment:
        lack = Unavailable(f"It names no environment for {'a GPU' if device.kind == 'cuda' else 'a CPU'}.", "")
    found = lack or interpreter_for(method.needs, environment, device.kind, home, find)
    return Choice(method, environment, lack, with_program(method, with_packages(method.packages, found)))


def interpreter_for(needs: Needs, environment: str, kind: str, home: Path, find: Find) -> Interpreter | Unavailable:
    """The interpreter for a device of this kind in which the needs are met, as far as a look tells, or why none is."""
    if not needs.compiler:
        return find(environment)
    if (without := unbuildable(kind, None, home / CACHE)) is not None:  # whatever the environment, so before making one
        return without
    interpreter = find(environment)
    if isinstance(interpreter, Unavailable):
        return interpreter
    return unbuildable(kind, interpreter, home / CACHE) or interpreter


def with_program(method: Method, found: Interpreter | Unavailable) -> Interpreter | Unavailable:
    """The interpreter if the program that the method needs is beside it, or on the PATH."""
    program = method.program
    if isinstance(found, Unavailable) or program is None:
        return found
    if os.access(found.python.parent / program, os.X_OK) or shutil.which(program) is not None:
        return found
    hint = f": {method.program_from}" if method.program_from else ""
    return Unavailable(f"There is no {program} in the environment {found.environment} or on the PATH{hint}.", "")


def with_packages(packages: Sequence[str], found: Interpreter | Unavailable) -> Interpreter | Unavailable:
    """The interpreter if it has these packages, which are not its environment's own, or which is missing."""
    if isinstance(found, Unavailable) or not packages:
        return found
    installed = versions_in([*found.paths, *site_packages(found.python)])
    for package in packages:
        if package not in installed:
            return Unavailable(
                f"The environment {found.environment} has no {package}, which is not made with it.",
                f"uv pip install --python {shlex.quote(str(found.python))} --no-build-isolation {package}",
            )
    return found


def _older(version: str | None, least: str | None) -> bool:
    """Whether a dotted version is below another; an unknown one counts as new enough."""
    if version is None or least is None:
        return False
    return [int(part) for part in version.split(".") if part.isdigit()] < [int(part) for part in least.split(".")]
