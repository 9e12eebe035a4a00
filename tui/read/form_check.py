"""A form's wishes checked: a plan or the reason why there is none, what this machine offers, and what it would take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice
    from probes.gpu.nvml import Nvml
    from sessions.disk.plan import Plan
    from sessions.disk.store import Store
    from sessions.planning.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check. `devices` are words and value of what the device field offers.

    `free_bytes` is the memory that is free on the device, `weights_bytes` what the model's tensors take of it where it
    is ready, `download_bytes` what would be fetched first. `empty`: nothing has ever been measured in this home.
    """

    plan: Plan | None
    problem: str
    choices: tuple[Choice, ...]
    estimate_s: float | None
    devices: tuple[tuple[str, str], ...]
    empty: bool = False
    free_bytes: int | None = None
    weights_bytes: int | None = None
    download_bytes: int | None = None


def check_form(
    wanted: Wanted, device: str | None, home: Path, config: Path, store: Store, nvml: Nvml
) -> Iterator[Checked]:
    """First what is known at once, then the same with an estimate from earlier sessions, where there is one."""
    from sessions.device.devices import DeviceError, choose, cpu
    from sessions.planning.make import estimate_s, plan_of
    from sessions.planning.offer import offer_on
    from sessions.planning.wanted import PlanError

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
        None,
        _devices(nvml),
        empty=not store.ids(),
        free_bytes=chosen.facts.free_bytes,
        weights_bytes=weights,
        download_bytes=download,
    )
    yield checked
    if plan is not None and (estimate := estimate_s(plan, store)) is not None:
        yield replace(checked, estimate_s=estimate)


def _of_model(plan: Plan | None, home: Path) -> tuple[int | None, int | None]:
    """Bytes of the model's tensors, and bytes to be fetched, as far as either is known."""
    from methods.models.models import check
    from methods.models.served import is_served
    from methods.models.sources import ModelError

    if plan is None or is_served(plan.model):
        return None, None
    try:
        prospect = check(plan.model, home, trust_remote_code=plan.trust_remote_code)
    except ModelError:  # the plan was refused for it, or it went since
        return None, None
    return prospect.ready.weights_bytes if prospect.ready is not None else None, prospect.download_bytes


def _devices(nvml: Nvml) -> tuple[tuple[str, str], ...]:
    from probes.gpu.visible_gpus import visible_gpus

    gpus = [(f"GPU {gpu.position} {plain(gpu.name)}", str(gpu.position)) for gpu in visible_gpus(nvml).gpus]
    several = [("all GPUs", ",".join(value for _, value in gpus))] if len(gpus) > 1 else []
    return (("idlest GPU" if gpus else "best available", ""), *gpus, *several, ("CPU", "cpu"))
