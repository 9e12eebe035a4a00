"""A form's wishes checked: a plan or the reason why there is none, what this machine offers, and what it would take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tui.read.form_rows import needed_environment
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice
    from probes.gpu.nvml import Nvml
    from sessions.disk.plan import Plan
    from sessions.disk.store import Store
    from sessions.planning.wanted import Wanted
    from tui.read.expected import Expected


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check. `devices` are words and value of what the device field offers.

    `expected` is None until earlier sessions were looked at. `free_bytes` is the memory that is free on the device,
    `weights_bytes` what the model's weights take of it where it is ready, `download_bytes` what would be fetched first,
    `disk_bytes` what is free where Kasoku keeps its files. `makes` says of each environment that would be made first
    what that takes. `empty`: nothing has ever been measured in this home.
    """

    plan: Plan | None
    problem: str
    choices: tuple[Choice, ...]
    devices: tuple[tuple[str, str], ...]
    expected: Expected | None = None
    empty: bool = False
    free_bytes: int | None = None
    weights_bytes: int | None = None
    download_bytes: int | None = None
    disk_bytes: int | None = None
    makes: tuple[tuple[str, str], ...] = ()


def check_form(
    wanted: Wanted, device: str | None, home: Path, config: Path, store: Store, nvml: Nvml
) -> Iterator[Checked]:
    """First what is known at once, then the same with what earlier sessions of this home make one expect."""
    from sessions.device.devices import DeviceError, choose, cpu
    from sessions.planning.make import plan_of
    from sessions.planning.offer import offer_on
    from sessions.planning.wanted import PlanError
    from tui.read.expected import earlier_blocks, expected

    refused = ""
    try:
        chosen = choose(device, nvml)
    except DeviceError as error:
        chosen, refused = cpu(), str(error)
    offer = offer_on(chosen, home, config)
    plan, problem = None, " ".join(offer.problems[:1])
    try:
        if refused:
            raise PlanError(refused)
        plan = plan_of(wanted, home, offer)
    except PlanError as error:
        problem = str(error)
    weights, download = _of_model(plan, home)
    checked = Checked(
        plan,
        problem,
        tuple(offer.choices.values()),
        _devices(nvml),
        empty=not store.ids(),
        free_bytes=chosen.facts.free_bytes,
        weights_bytes=weights,
        download_bytes=download,
        disk_bytes=_free_on_disk(home),
        makes=_to_be_made(plan, offer.choices, config),
    )
    yield checked
    if plan is not None:
        yield replace(checked, expected=expected(plan, earlier_blocks(plan, store)))


def _of_model(plan: Plan | None, home: Path) -> tuple[int | None, int | None]:
    """Bytes of the model's weights once loaded, and bytes to be fetched, as far as either is known."""
    from methods.models.models import check
    from methods.models.served import is_served
    from methods.models.sources import ModelError
    from tui.read.models_here import loaded_bytes

    if plan is None or is_served(plan.model):
        return None, None
    try:
        prospect = check(plan.model, home, trust_remote_code=plan.trust_remote_code)
    except ModelError:  # the plan was refused for it, or it went since
        return None, None
    ready = prospect.ready
    return loaded_bytes(ready, plan.dtype) if ready is not None else None, prospect.download_bytes


def _to_be_made(plan: Plan | None, choices: Mapping[str, Choice], config: Path) -> tuple[tuple[str, str], ...]:
    """The environments that the plan has made first, each with what that takes, "" where nobody knows."""
    from methods.environments.specs import load_specs

    if plan is None or not plan.create_environments:
        return ()
    names = dict.fromkeys(needed_environment(choices[method.name]) for method in plan.methods if method.name in choices)
    specs = load_specs(config).by_name
    return tuple((name, specs[name].takes if name in specs else "") for name in names if name)


def _free_on_disk(home: Path) -> int | None:
    while not os.path.isdir(home) and home != home.parent:
        home = home.parent
    try:
        return shutil.disk_usage(home).free
    except OSError:
        return None


def _devices(nvml: Nvml) -> tuple[tuple[str, str], ...]:
    from probes.gpu.visible_gpus import visible_gpus

    gpus = [(f"GPU {gpu.position} {plain(gpu.name)}", str(gpu.position)) for gpu in visible_gpus(nvml).gpus]
    several = [("all GPUs", ",".join(value for _, value in gpus))] if len(gpus) > 1 else []
    return (("idlest GPU" if gpus else "best available", ""), *gpus, *several, ("CPU", "cpu"))
