"""From a user's request to a valid plan, or a one-sentence reason why it is invalid."""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from methods.base.home import SESSIONS, HomeError, subfolder
from methods.catalogue.availability import Choice
from methods.catalogue.method import Method
from methods.catalogue.toml_keys import nearest
from methods.models.prompts import normalised
from methods.models.served import is_served
from sessions.device.devices import DeviceError, choose, default_threads
from sessions.disk.option_table import OptionError, Value
from sessions.disk.options import UNTIL_AT_MOST_S, UNTIL_BLOCKS, RunOptions
from sessions.disk.plan import Plan, PlannedMethod
from sessions.planning.degrees import at_degrees, degrees_of
from sessions.planning.fidelity_rule import FidelityTextError, rule_of
from sessions.planning.lanes import check_lanes, lanes_on
from sessions.planning.offer import Offer, offer_on
from sessions.planning.points import points_of, with_loads
from sessions.planning.servers import is_alone, planned_server
from sessions.planning.twice import twice
from sessions.planning.wanted import PlanError, Wanted

if TYPE_CHECKING:
    from methods.models.model import Model
    from methods.models.models import Prospect
    from probes.gpu.nvml import Nvml


def make_plan(wanted: Wanted, home: Path, config_folder: Path, nvml: Nvml | None = None) -> Plan:
    """The plan, validated as far as possible without loading anything. Raises PlanError."""
    from probes.gpu.nvml import Nvml

    asked = wanted.said.get("device")
    try:
        degree = max(degrees_of(wanted.said)[1], default=1)
        wide = degree * max(1, int(wanted.said.get("spread", 1)))
        device = choose(None if asked is None else str(asked), nvml or Nvml(), wide)
    except DeviceError as error:
        raise PlanError(str(error)) from None
    return plan_of(wanted, home, offer_on(device, home, config_folder))


def plan_of(wanted: Wanted, home: Path, offer: Offer) -> Plan:
    """The plan of what the machine offers, on its device. Raises PlanError."""
    options = _options(wanted, offer)
    _check_home(home)
    check_lanes(options)
    server = planned_server(options, wanted.said, wanted.methods, offer.choices, home)
    if server is not None:
        options = server.options
    chosen = _methods(wanted, options, offer)
    remarks: list[str] = []
    if not is_served(options.model):
        options, about = _with_lasting_model(options)
        remarks += about
    try:
        options, rule = rule_of(options)
    except FidelityTextError as error:
        raise PlanError(str(error)) from None
    way, degrees = degrees_of(wanted.said)
    if degrees:
        chosen = at_degrees(chosen, degrees, len(offer.device.uuids) // (options.spread or 1), options.spread, way)
    if server is not None:
        chosen.append(server.method)
        remarks += server.remarks
    methods = twice(chosen) if options.aa else chosen
    if not wanted.methods:
        remarks += _without_ratio(options.preset, methods)
    plan = Plan(
        **_fields(RunOptions, options),
        fidelity_rule=rule,
        methods=methods,
        points=points_of(options, len(methods)),
        prompt_given="prompt" in wanted.said,
        device_name=offer.device.name,
        gpu_uuids=list(offer.device.uuids),
        gpu_visible=list(offer.device.visible),
        gpu_sources=list(offer.device.sources),
        command=[word.encode(errors="replace").decode() for word in wanted.command],
        remarks=remarks,
    )
    _check_model(plan, home)
    return plan


def _with_lasting_model(options: RunOptions) -> tuple[RunOptions, list[str]]:
    """The options with a model that is the same in the session's processes, whose current folder is another, and what
    to say of it."""
    from methods.models.sources import ModelError, ambiguity, lasting

    try:
        said = ambiguity(options.model)
        return dataclasses.replace(options, model=lasting(options.model)), [said] if said else []
    except ModelError as error:
        raise PlanError(str(error)) from None


def _options(wanted: Wanted, offer: Offer) -> RunOptions:
    preset, said = wanted.preset(), wanted.said
    _check_texts(said)
    lanes = lanes_on(offer.device, said)
    drawn: dict[str, Value] = {
        "seed": random.SystemRandom().randrange(2**31),
        "threads": default_threads(lanes=lanes),
    }
    drawn |= _amount(preset, said) | _fidelity(said)
    try:
        options = wanted.options(drawn)
    except OptionError as error:
        raise PlanError(str(error)) from None
    cut = is_alone(options, said, wanted.methods)  # a server that runs already: whatever it is at, it ends in time
    if options.until is None and options.at_most is not None and not cut:
        raise PlanError("--at-most goes with --until: say how precise the ratios are to be, as in --until 5%.")
    options = with_loads(options, said)
    requests, blocks = options.requests, options.blocks
    if requests < blocks:
        raise PlanError(f"--requests {requests} cannot fill {blocks} blocks: use at least {blocks}, or fewer --blocks.")
    if "prompt" in said and "template" not in said:  # a preset's choice of raw or chat belongs to its own prompt
        options = dataclasses.replace(options, template=None)
    if options.prompt is not None:
        options = dataclasses.replace(options, prompt=normalised(options.prompt))
    spread = lanes if lanes > 1 else None
    return dataclasses.replace(options, model=options.model.strip(), device=offer.device.spec, spread=spread)


def _amount(preset: RunOptions, said: Mapping[str, Value]) -> dict[str, Value]:
    """Requests and blocks where they are not said: at most so many, where a precision is asked for."""
    if preset.until is None and "until" not in said:
        return {"blocks": min(preset.blocks, int(said.get("requests", preset.requests)))}
    each = max(1, preset.requests // preset.blocks)
    blocks = int(said.get("blocks", min(UNTIL_BLOCKS, int(said.get("requests", UNTIL_BLOCKS)))))
    drawn: dict[str, Value] = {"blocks": blocks, "requests": blocks * each}
    return drawn | {"at_most": UNTIL_AT_MOST_S} if "until" in said else drawn


def _fidelity(said: Mapping[str, Value]) -> dict[str, Value]:
    """Fidelity where what it takes was named. Raises PlanError where it was also refused."""
    named = [name for name in ("fidelity_text", "reference_model") if name in said]
    if named and said.get("fidelity") is False:
        raise PlanError(f"--{named[0].replace('_', '-')} and --no-fidelity exclude each other.")
    if not str(said.get("reference_model", "the model itself")).strip():
        raise PlanError("--reference-model is empty: name the unquantised model, or leave it out.")
    return {"fidelity": True} if named else {}


def _check_texts(said: Mapping[str, Value]) -> None:
    if "prompt" in said and "prompt_tokens" in said:
        raise PlanError("--prompt and --prompt-tokens exclude each other: give either the text or its length.")
    if not normalised(str(said.get("prompt", "a preset's"))).strip():
        raise PlanError("The prompt is empty: give some text, @FILE, or - for standard input.")
    if not str(said.get("model", "a preset's")).strip():
        raise PlanError("--model is empty: name one that `kasoku models list` lists, org/name of the Hub, or a folder.")


def _check_home(home: Path) -> None:
    try:
        subfolder(home, SESSIONS)
    except HomeError as error:
        raise PlanError(str(error)) from None


def _methods(wanted: Wanted, options: RunOptions, offer: Offer) -> list[PlannedMethod]:
    names = list(dict.fromkeys(wanted.methods))
    for name in names:
        if name not in offer.choices:
            close = nearest(name, offer.choices)
            hint = f"did you mean {' or '.join(close)}?" if close else "`kasoku methods` lists them."
            raise PlanError(f"Unknown method {name!r}: {hint}")
    if names or options.server is not None:
        return [_planned(offer.choices[name], named=True) for name in names]
    rows = [row for row in offer.choices.values() if options.preset in row.method.presets]
    if not options.create_environments:
        _check_any_can_run(rows)
    return [_planned(row, named=False) for row in rows]


def _check_any_can_run(rows: Sequence[Choice]) -> None:
    """A preset of which nothing can run here is an error; if some can, the others are rows that say why."""
    lacks = [row.unavailable for row in rows if row.unavailable is not None]
    if lacks and len(lacks) == len(rows):
        fix = f" Fix: `{lacks[0].remedy}`, or add --create-environments." if lacks[0].remedy else ""
        raise PlanError(f"None of these methods can run here: {lacks[0].reason}{fix}")


def _without_ratio(preset: str, methods: Sequence[PlannedMethod]) -> list[str]:
    """Which methods of a preset have no ratio in it, and how to get one; nothing to say of a method alone."""
    names = {method.name for method in methods}
    alone = [method for method in methods if method.reference is not None and method.reference not in names]
    if not alone or len(methods) < 2:
        return []
    names_alone = " and ".join(method.name for method in alone)
    absent = " and ".join(sorted({str(method.reference) for method in alone}))
    against = next((method.name for method in methods if method not in alone), alone[0].name)
    return [
        f"Preset {preset} has no ratio of {names_alone}, being without {absent}:"
        f" `kasoku compare SESSION --baseline {against}` compares with what is in it."
    ]


def _planned(row: Choice, named: bool) -> PlannedMethod:
    return PlannedMethod(
        **_fields(Method, row.method),
        environment=row.environment,
        named=named,
        lacking={"reason": row.lacking.reason, "remedy": row.lacking.remedy} if row.lacking else {},
    )


def _fields(kind: type, whole: object) -> dict[str, Any]:
    """The fields of a dataclass, for one that extends it."""
    return {field.name: getattr(whole, field.name) for field in dataclasses.fields(kind)}


def _check_model(plan: Plan, home: Path) -> None:
    if is_served(plan.model):
        return
    from methods.models import models
    from methods.models.prompts import PromptError
    from sessions.planning.fidelity_windows import windows_of
    from sessions.planning.prompt_ids import prompts_of

    try:
        prospect = models.check(plan.model, home, trust_remote_code=plan.trust_remote_code)
        model = prospect.ready or _in_folder(plan.model, prospect)
        if model is not None:
            prompts = prompts_of(plan, model)
            if plan.fidelity_text is not None:
                windows_of(plan, model, len(prompts[0].ids))
        if plan.reference_model is not None:
            models.check(plan.reference_model, home, trust_remote_code=plan.trust_remote_code)
    except (models.ModelError, PromptError, FidelityTextError) as error:
        raise PlanError(str(error)) from None
    for place, point in enumerate(plan.points):
        prompt_tokens, new_tokens = point.isl or plan.prompt_tokens, plan.new_tokens(place)
        whole = point.depth + (prompt_tokens or 1) + new_tokens
        if prospect.context_length is not None and whole > prospect.context_length:
            before = f"A depth of {point.depth}, a prompt" if point.depth else "A prompt"
            raise PlanError(
                f"{before} of {prompt_tokens or 'at least 1'} tokens and {new_tokens} new ones"
                f" do not fit {prospect.name}'s context of {prospect.context_length}: shorten one of them."
            )


def _in_folder(spec: str, prospect: Prospect) -> Model | None:
    """A model in a folder, as far as its prompt needs it, without reading its weights; otherwise None."""
    from methods.models.model import Model
    from methods.models.sources import InFolder, source_of
    from methods.text.chat_template import has_chat_template
    from methods.text.tokeniser import FILE

    source = source_of(spec)
    if not isinstance(source, InFolder) or prospect.needs_environment:
        return None
    has_tokeniser = os.path.exists(source.path / FILE)
    return Model(
        name=prospect.name,
        source=spec,
        folder=source.path,
        weights_digest="",
        parameters=0,
        weights_bytes=0,
        dtype="",
        context_length=prospect.context_length,
        vocab_size=prospect.vocab_size,
        has_tokeniser=has_tokeniser,
        has_chat_template=has_tokeniser and has_chat_template(source.path),
    )
