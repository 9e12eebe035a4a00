"""A session's plan in the field's terms. It is read from a file, so any part may be missing or of a wrong type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from tui.words import figures
from tui.words.fact import Fact


def plan_facts(plan: Mapping[str, Any]) -> Iterator[Fact]:
    """What was asked for: the model, the methods, how often, the prompt, the sampling, the device, the command."""
    if preset := _text(plan.get("preset")):
        yield Fact("preset", preset)
    if model := _text(plan.get("model")):
        trusted = " (its code is trusted)" if plan.get("trust_remote_code") is True else ""
        yield Fact("model", model + trusted)
    if dtype := _text(plan.get("dtype")):
        yield Fact("dtype", dtype)
    yield from _methods(plan)
    yield from _requests(plan)
    yield from _prompt(plan)
    yield from _sampling(plan.get("sampling"))
    yield from _device(plan)
    if (seed := _number(plan.get("seed"))) is not None:
        yield Fact("seed", f"{seed} (block order and sampling)")
    deadlines = plan.get("deadlines")
    if isinstance(deadlines, Mapping):
        for name, waits in (("load", "a message while loading or warming up"), ("token", "a token in a timed request")):
            if (limit := _number(deadlines.get(f"{name}_s"))) is not None:
                yield Fact(f"{name} deadline", f"{figures.duration(limit)} without {waits}")
    command = plan.get("command")
    if isinstance(command, list) and command:
        yield Fact("command", shlex.join(str(word) for word in command))


def _methods(plan: Mapping[str, Any]) -> Iterator[Fact]:
    rows = plan.get("methods")
    methods = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    for number, row in enumerate(methods):
        parts = [_text(row.get("name")) or figures.UNKNOWN]
        if reference := _text(row.get("reference")):
            differs = _text(row.get("differs"))
            parts.append(f"against {reference}" + (f": {differs.rstrip('.')}" if differs else ""))
        if environment := _text(row.get("environment")):
            parts.append(f"environment {environment}")
        yield Fact("methods" if number == 0 else " ", " · ".join(parts))
    if plan.get("aa") is True:
        yield Fact("noise floor", "A/A: the reference runs against itself")
    if plan.get("create_environments") is True:
        yield Fact("environments", "created if missing")


def _requests(plan: Mapping[str, Any]) -> Iterator[Fact]:
    requests, blocks = _number(plan.get("requests")), _number(plan.get("blocks"))
    if requests is not None:
        spread = f" in {blocks} block{'s' if blocks != 1 else ''}, each a fresh process" if blocks is not None else ""
        yield Fact("requests", f"{requests} per method{spread}")
    if (warmup := _number(plan.get("warmup"))) is not None:
        yield Fact("warm-up", f"{warmup} request{'s' if warmup != 1 else ''} per block")


def _prompt(plan: Mapping[str, Any]) -> Iterator[Fact]:
    tokens = _number(plan.get("prompt_tokens"))
    if tokens is not None:
        yield Fact("prompt", f"{tokens} tokens drawn from the vocabulary")
    elif prompt := _text(plan.get("prompt")):
        yield Fact("prompt", prompt)
    if tokens is None and plan.get("prompt") is not None:
        match plan.get("template"):
            case True:
                yield Fact("chat template", "the model's")
            case False:
                yield Fact("chat template", "none: raw prompt")
            case None:
                yield Fact("chat template", "the model's, if it has one")


def _sampling(sampling: object) -> Iterator[Fact]:
    if not isinstance(sampling, Mapping):
        return
    temperature = _number(sampling.get("temperature"))
    if temperature == 0:
        said = ["greedy"]
    else:
        named = (("temperature", temperature), ("top-p", _number(sampling.get("top_p"))))
        said = [f"{name} {value:g}" for name, value in named if value is not None]
        if top_k := _number(sampling.get("top_k")):
            said.append(f"top-k {top_k}")
    penalty = _number(sampling.get("repetition_penalty"))
    if penalty not in (None, 1):
        said.append(f"repetition penalty {penalty:g}")
    if said:
        yield Fact("sampling", ", ".join(said))
    if (longest := _number(sampling.get("max_new_tokens"))) is not None:
        ends = "at most, stopping at EOS" if sampling.get("stop_at_eos") is True else "always: EOS is ignored"
        yield Fact("new tokens", f"{longest} per request, {ends}")


def _device(plan: Mapping[str, Any]) -> Iterator[Fact]:
    device, name = _text(plan.get("device")), _text(plan.get("device_name"))
    if device:
        index = device if device == "cpu" else f"GPU {device}"
        yield Fact("device", f"{name} ({index})" if name and name != device else index)
    uuids = plan.get("gpu_uuids")
    if isinstance(uuids, list) and uuids:
        yield Fact("GPU UUID", ", ".join(str(uuid) for uuid in uuids))
    if (threads := _number(plan.get("threads"))) is not None:
        yield Fact("CPU threads", f"{threads}")


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: object) -> int | float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value
