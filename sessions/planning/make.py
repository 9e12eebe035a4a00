"""From a user's request to a valid plan, or a one-sentence reason why it is invalid."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from methods.base.home import SESSIONS, HomeError, subfolder
from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.availability import interpreter_for, lacking
from methods.catalogue.catalogue import Catalogue, Method, load_catalogue, nearest
from sessions.device.devices import Device, DeviceError, choose, default_threads
from sessions.disk.plan import (
    LONGEST_DEADLINE_S,
    MOST_BLOCKS,
    MOST_REQUESTS,
    MOST_TOKENS,
    MOST_WARMUPS,
    Deadlines,
    Plan,
    PlannedMethod,
    Sampling,
)
from sessions.planning.presets import PRESETS, Preset
from sessions.planning.twice import twice

if TYPE_CHECKING:
    from methods.models.model import Model
    from methods.models.models import Prospect
    from probes.gpu.nvml import Nvml
    from sessions.disk.store import Store

DTYPES: Final = ("bfloat16", "float16", "float32")


class PlanError(Exception):
    """The request is invalid; the message is one sentence: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for; None: the preset's value."""

    preset: str = "quick"
    model: str | None = None
    methods: tuple[str, ...] = ()
    requests: int | None = None
    warmup: int | None = None
    blocks: int | None = None
    seed: int | None = None
    prompt: str | None = None
    prompt_tokens: int | None = None
    template: bool | None = None
    max_new_tokens: int | None = None
    stop_at_eos: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    dtype: str | None = None
    device: str | None = None
    threads: int | None = None
    load_deadline_s: float | None = None
    token_deadline_s: float | None = None
    create_environments: bool = False
    trust_remote_code: bool = False
    aa: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """A method of the catalogue on this machine: whether it can run and, if not, why and how to fix it."""

    method: Method
    unavailable: Unavailable | None


def choices(catalogue: Catalogue, device: Device, home: Path, config_folder: Path) -> list[Choice]:
    """Every method with its availability on a device; starts no process."""
    rows = []
    for method in catalogue.methods.values():
        found = interpreter_for(method.needs, method.environments, device.facts, home, config_folder)
        rows.append(Choice(method, found if isinstance(found, Unavailable) else None))
    return rows


def make_plan(wanted: Wanted, home: Path, config_folder: Path, nvml: Nvml | None = None) -> Plan:
    """The plan, validated as far as possible without loading anything. Raises PlanError."""
    preset = _preset(wanted.preset)
    sampling = _sampling(wanted, preset)
    requests = _whole("--requests", wanted.requests, preset.requests, 1, MOST_REQUESTS)
    blocks = _whole("--blocks", wanted.blocks, min(preset.blocks, requests), 1, MOST_BLOCKS)
    if requests < blocks:
        raise PlanError(f"--requests {requests} cannot fill {blocks} blocks: use at least {blocks}, or fewer --blocks.")
    dtype = wanted.dtype or preset.dtype
    if dtype not in DTYPES:
        raise PlanError(f"--dtype {dtype} is unknown: choose from {', '.join(DTYPES)}.")
    _check_home(home)
    device = _device(wanted, nvml)
    catalogue = load_catalogue(config_folder)
    chosen = _methods(wanted, preset, catalogue, device, home, config_folder)
    if wanted.aa:
        chosen = twice(chosen)
    model = _model(wanted, preset)
    plan = Plan(
        preset=preset.name,
        model=model,
        methods=chosen,
        requests=requests,
        warmup=_whole("--warmup", wanted.warmup, preset.warmup, 0, MOST_WARMUPS),
        blocks=blocks,
        seed=_whole("--seed", wanted.seed, random.SystemRandom().randrange(2**31), 0, 2**31 - 1),
        prompt=_prompt(wanted, preset),
        prompt_given=wanted.prompt is not None,
        prompt_tokens=_whole("--prompt-tokens", wanted.prompt_tokens, None, 1, MOST_TOKENS),
        template=wanted.template if wanted.template is not None else _template(wanted, preset),
        sampling=sampling,
        dtype=dtype,
        device=device.spec,
        device_name=device.name,
        gpu_uuids=list(device.uuids),
        gpu_visible=list(device.visible),
        gpu_sources=list(device.sources),
        threads=_whole("--threads", wanted.threads, default_threads(), 1, 1024) or 1,
        deadlines=Deadlines(
            load_s=_number("--load-deadline", wanted.load_deadline_s, Deadlines().load_s, 0.1, LONGEST_DEADLINE_S),
            token_s=_number("--token-deadline", wanted.token_deadline_s, Deadlines().token_s, 0.1, LONGEST_DEADLINE_S),
        ),
        create_environments=wanted.create_environments,
        trust_remote_code=wanted.trust_remote_code,
        aa=wanted.aa,
        command=list(wanted.command),
    )
    _check_model(plan, home)
    return plan


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise PlanError(f"Unknown preset {name!r}: choose from {', '.join(PRESETS)}.")
    return PRESETS[name]


def _sampling(wanted: Wanted, preset: Preset) -> Sampling:
    base = preset.sampling
    return Sampling(
        max_new_tokens=_whole("--max-new-tokens", wanted.max_new_tokens, base.max_new_tokens, 1, MOST_TOKENS),
        stop_at_eos=base.stop_at_eos if wanted.stop_at_eos is None else wanted.stop_at_eos,
        temperature=_number("--temperature", wanted.temperature, base.temperature, 0, 100),
        top_p=_number("--top-p", wanted.top_p, base.top_p, 1e-6, 1),
        top_k=_whole("--top-k", wanted.top_k, base.top_k, 0, 1_000_000),
        repetition_penalty=_number(
            "--repetition-penalty", wanted.repetition_penalty, base.repetition_penalty, 0.01, 100
        ),
    )


def _whole(option: str, asked: int | None, default: Any, least: int, most: int) -> Any:
    value = default if asked is None else asked
    if value is not None and not least <= value <= most:
        raise PlanError(f"{option} {value} is out of range: use a whole number from {least} to {most:,}.")
    return value


def _number(option: str, asked: float | None, default: float, least: float, most: float) -> float:
    value = default if asked is None else asked
    if not least <= value <= most:  # a NaN is outside of everything
        raise PlanError(f"{option} {value:g} is out of range: use a number from {least:g} to {most:g}.")
    return float(value)


def _prompt(wanted: Wanted, preset: Preset) -> str | None:
    if wanted.prompt is not None and wanted.prompt_tokens is not None:
        raise PlanError("--prompt and --prompt-tokens exclude each other: give either the text or its length.")
    if wanted.prompt is not None and not wanted.prompt.strip():
        raise PlanError("The prompt is empty: give some text, @FILE, or - for standard input.")
    return wanted.prompt if wanted.prompt is not None else preset.prompt


def _template(wanted: Wanted, preset: Preset) -> bool | None:
    """A preset's choice of raw or chat applies to its own prompt only."""
    return preset.template if wanted.prompt is None else None


def _model(wanted: Wanted, preset: Preset) -> str:
    if wanted.model is not None and not wanted.model.strip():
        raise PlanError("--model is empty: name one that `kasoku models list` lists, org/name of the Hub, or a folder.")
    return (wanted.model or preset.model).strip()


def _check_home(home: Path) -> None:
    try:
        subfolder(home, SESSIONS)
    except HomeError as error:
        raise PlanError(str(error)) from None


def _device(wanted: Wanted, nvml: Nvml | None) -> Device:
    from probes.gpu.nvml import Nvml

    try:
        return choose(wanted.device, nvml or Nvml())
    except DeviceError as error:
        raise PlanError(str(error)) from None


def _methods(
    wanted: Wanted, preset: Preset, catalogue: Catalogue, device: Device, home: Path, config_folder: Path
) -> list[PlannedMethod]:
    names = list(dict.fromkeys(wanted.methods))
    for name in names:
        if name not in catalogue.methods:
            close = nearest(name, catalogue.methods)
            hint = f"did you mean {' or '.join(close)}?" if close else "`kasoku methods` lists them."
            raise PlanError(f"Unknown method {name!r}: {hint}")
    named = bool(names)
    names = names or [method.name for method in catalogue.methods.values() if preset.name in method.presets]
    rows = [_planned(catalogue.methods[name], device, named) for name in names]
    if not named and not wanted.create_environments:
        _check_any_can_run(rows, catalogue, device, home, config_folder)
    return rows


def _check_any_can_run(
    rows: list[PlannedMethod], catalogue: Catalogue, device: Device, home: Path, config_folder: Path
) -> None:
    """A preset of which nothing can run here is an error; if some can, the others are rows that say why."""
    lack: Unavailable | None = None
    for row in rows:
        method = catalogue.methods[row.name]
        found = interpreter_for(method.needs, method.environments, device.facts, home, config_folder)
        if isinstance(found, Interpreter):
            return
        lack = lack or found
    if lack is not None:
        fix = f" Fix: `{lack.remedy}`, or add --create-environments." if lack.remedy else ""
        raise PlanError(f"None of these methods can run here: {lack.reason}{fix}")


def _planned(method: Method, device: Device, named: bool) -> PlannedMethod:
    lack = lacking(method.needs, device.facts)
    return PlannedMethod(
        name=method.name,
        engine=method.engine,
        environment=method.environments.get(device.facts.kind, ""),
        named=named,
        summary=method.summary,
        reference=method.reference,
        differs=method.differs,
        options=_thawed(method.options),
        must_show=_thawed(method.must_show),
        needs=_thawed(asdict(method.needs)),
        lacking={"reason": lack.reason, "remedy": lack.remedy} if lack else {},
    )


def _thawed(value: Any) -> Any:
    """Read-only mappings and tuples as plain dictionaries and lists."""
    if isinstance(value, Mapping):
        return {str(key): _thawed(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_thawed(item) for item in value]
    return value


def _check_model(plan: Plan, home: Path) -> None:
    from methods.models import models
    from methods.models.prompts import PromptError
    from sessions.planning.prompt_ids import prompt_of

    try:
        prospect = models.check(plan.model, home)
        model = prospect.ready or _in_folder(plan.model, prospect)
        if model is not None:
            prompt_of(plan, model)
    except (models.ModelError, PromptError) as error:
        raise PlanError(str(error)) from None
    least = (plan.prompt_tokens or 1) + plan.sampling.max_new_tokens
    if prospect.context_length is not None and least > prospect.context_length:
        raise PlanError(
            f"A prompt of {plan.prompt_tokens or 'at least 1'} tokens and {plan.sampling.max_new_tokens} new ones"
            f" do not fit {prospect.name}'s context of {prospect.context_length}: shorten one of them."
        )


def _in_folder(spec: str, prospect: Prospect) -> Model | None:
    """A model in a folder, as far as its prompt needs it, without reading its weights; otherwise None."""
    from methods.models.model import Model
    from methods.models.sources import InFolder, source_of
    from methods.text.chat_template import TemplateError, chat_template
    from methods.text.tokeniser import FILE

    source = source_of(spec)
    if not isinstance(source, InFolder) or prospect.needs_environment:
        return None
    has_tokeniser = (source.path / FILE).exists()
    try:
        has_template = has_tokeniser and chat_template(source.path) is not None
    except TemplateError:
        has_template = False
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
        has_chat_template=has_template,
    )


def estimate_s(plan: Plan, store: Store) -> float | None:
    """Estimated seconds for the plan, from earlier runs of its methods on this model and device; None if unknown."""
    import polars as pl

    from sessions.frames.counting import counted_blocks

    runs = store.scan("runs", store.ids()[:50])
    if runs is None:
        return None
    names = [method.name for method in plan.methods]
    known = (
        counted_blocks(runs)
        .filter(
            (pl.col("model") == plan.model)
            & (pl.col("device") == plan.device)
            & pl.col("method").is_in(names)
            & (pl.col("timed_s") > 0)
        )
        .select("session", "method", "timed_s", ((pl.col("ended_ns") - pl.col("started_ns")) * 1e-9).alias("all_s"))
        .sort("session")
        .group_by("method")
        .agg(pl.col("all_s").last(), pl.col("timed_s").last(), pl.col("session").last())
        .collect()
    )
    if known.is_empty():
        return None
    took = {row["method"]: float(row["all_s"]) for row in known.iter_rows(named=True)}
    mean = sum(took.values()) / len(took)
    return plan.blocks * sum(took.get(name, mean) for name in names)
