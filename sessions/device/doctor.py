"""What on this machine gets in the way of good measurements: each finding with its fix."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from methods.base.file_lock import lock_fault
from methods.base.home import CACHE, HomeError, private_folder
from methods.base.interpreter import Interpreter
from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.native_code import tried, unbuildable
from methods.environments import environments
from methods.models import models
from probes.base.cpu_list import listed
from probes.capture import capture
from probes.gpu.co_tenants import busy_processes, gpu_tenants
from probes.gpu.facts import GpuFacts
from probes.gpu.link import linked_in_words
from probes.gpu.nvml import Nvml
from probes.host.logout import ending_at_logout
from probes.machine import Machine

Level = Literal["ok", "note", "warning", "problem"]
APART = "Engines that are split over them send their parts through the host's memory, which is slower."
LEAST_FREE_BYTES = 5_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding about this machine; `remedy` is empty if there is nothing to do."""

    level: Level
    text: str
    remedy: str = ""


def findings(home: Path, config_folder: Path) -> list[Finding]:
    """All findings about this machine. Takes about a second; raises nothing."""
    nvml = Nvml()
    machine = capture(nvml)
    return [
        *_home(home, config_folder),
        *_gpus(nvml, machine),
        *_cpu(machine),
        *_compiling(home, config_folder, "cuda" if machine.gpus else "cpu"),
        *_company(nvml),
        *_environments(home, config_folder),
        *_models(home),
        *_catalogue(config_folder),
        *_logout(),
    ]


def _home(home: Path, config_folder: Path) -> list[Finding]:
    try:
        private_folder(home)
        fault = lock_fault(home)
    except HomeError as error:
        return [Finding("problem", str(error))]
    free = shutil.disk_usage(home).free
    found = [Finding("ok", f"Kasoku keeps its files in {home}; your settings are in {config_folder}.")]
    if fault:
        found.append(Finding("problem", fault))
    if free < LEAST_FREE_BYTES:
        found.append(
            Finding("warning", f"Only {free / 1e9:.1f} GB are free there.", "Environments take 1 to 10 GB each.")
        )
    mode = home.stat().st_mode & 0o077
    if mode:
        found.append(Finding("warning", f"{home} can be read by others.", f"chmod 700 {home}"))
    return found


def _gpus(nvml: Nvml, machine: Machine) -> list[Finding]:
    if not machine.gpus:
        return [Finding("note", f"No GPU: {nvml.reason or 'none is visible'}.", "Methods run on the CPU.")]
    found = [
        Finding("ok", f"{gpu.source}: {gpu.name}, driver {machine.gpu_driver}{_near(gpu, machine)}.")
        for gpu in machine.gpus
    ]
    found += [
        Finding("note", f"{gpu.source} has persistence mode off: loading takes longer.", "nvidia-smi -pm 1 (root)")
        for gpu in machine.gpus
        if gpu.persistence is False
    ]
    return found + [
        Finding("note" if access is False else "ok", f"{words}.", APART if access is False else "")
        for access, words in linked_in_words(machine.links())
    ]


def _near(gpu: GpuFacts, machine: Machine) -> str:
    """The CPUs near a GPU, where these are not all."""
    if gpu.near_cpus is None or set(gpu.near_cpus) >= set(machine.affinity):
        return ""
    return f", near CPUs {listed(gpu.near_cpus)}"


def _cpu(machine: Machine) -> list[Finding]:
    found = [Finding("ok", f"CPU: {machine.cpu_model or 'unknown'}, {len(machine.affinity)} logical cores for Kasoku.")]
    if machine.governor not in (None, "performance"):
        found.append(
            Finding(
                "warning",
                f"The CPU frequency governor is {machine.governor}: clocks follow the load.",
                "cpupower frequency-set -g performance (root)",
            )
        )
    if limits := machine.limits():
        found.append(
            Finding(
                "warning",
                f"A control group limits Kasoku to {limits}: what needs more has to wait.",
                "Raise the container's limits.",
            )
        )
    return found


def _compiling(home: Path, config_folder: Path, kind: str) -> list[Finding]:
    """What keeps methods that compile from running on this kind of device, tried in each of their environments."""
    affected: dict[str, list[str]] = {}
    for method in load_catalogue(config_folder).methods.values():
        if not method.needs.compiler or kind not in method.environments:
            continue
        fault = unbuildable(kind, None, home / CACHE)
        interpreter = environments.resolve(method.environments[kind], home, config_folder)
        if fault is None and isinstance(interpreter, Interpreter):
            fault = tried(kind, interpreter, home / CACHE)
        if fault is not None:
            affected.setdefault(fault.reason, []).append(method.name)
    return [Finding("warning", f"{', '.join(names)} cannot run: {reason}") for reason, names in affected.items()]


def _company(nvml: Nvml) -> list[Finding]:
    found = [
        Finding(
            "warning",
            f"{process.name} (pid {process.pid}) uses {process.cpu_percent:.0f} % of a core.",
            "Wait for it to finish.",
        )
        for process in busy_processes(ours=(os.getpid(),))
    ]
    tenants = gpu_tenants(nvml, [gpu.uuid for gpu in nvml.gpus])
    found += [
        Finding("warning", f"Process {tenant.pid} is on GPU {tenant.gpu_uuid}.", "Use another GPU, or wait for it.")
        for tenant in tenants.tenants
    ]
    return found


def _environments(home: Path, config_folder: Path) -> list[Finding]:
    found = []
    for row in environments.listed(home, config_folder):
        if row.state in ("ready", "configured", "own"):
            found.append(Finding("ok", f"Environment {row.name}: {row.state}."))
        elif row.state == "absent":
            found.append(Finding("note", f"Environment {row.name} does not exist.", f"kasoku env create {row.name}"))
        else:
            found.append(
                Finding(
                    "warning", f"Environment {row.name} is {row.state}: {row.reason}", f"kasoku env create {row.name}"
                )
            )
    return found


def _models(home: Path) -> list[Finding]:
    return [
        Finding("warning", f"Model {row.spec} is {row.state}: {row.summary}.")
        for row in models.listed(home)
        if row.state in ("broken", "incomplete")
    ]


def _catalogue(config_folder: Path) -> list[Finding]:
    problems = (*load_catalogue(config_folder).problems, *environments.load_specs(config_folder).problems)
    return [Finding("problem", problem) for problem in problems]


def _logout() -> list[Finding]:
    """What would end a detached session at logout."""
    ending = ending_at_logout()
    return [Finding("warning", f"{ending.cause} A detached session would end too.", ending.remedy)] if ending else []
