"""A session's plan in the field's terms. It is read from a file, so any part may be missing or of a wrong type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sessions.disk.option_table import Option, Value, table
from sessions.disk.options import RunOptions
from sessions.disk.records import Prepared
from tui.words import figures
from tui.words.fact import Fact


def plan_facts(plan: Mapping[str, Any], prepared: Prepared | None = None, kind: type = RunOptions) -> Iterator[Fact]:
    """What was asked for: the options, the methods, the GPUs, the command. `prepared` tells what became of the prompt.

    `kind` is the dataclass whose table the options are read from.
    """
    yield from _options(plan, table(kind))
    yield from _prompt(plan, prepared)
    yield from _methods(plan)
    uuids = plan.get("gpu_uuids")
    if isinstance(uuids, list) and uuids:
        yield Fact("GPU UUID", ", ".join(str(uuid) for uuid in uuids))
    command = plan.get("command")
    if isinstance(command, list) and command:
        yield Fact("command", shlex.join(str(word) for word in command))


def _options(plan: Mapping[str, Any], options: Sequence[Option]) -> Iterator[Fact]:
    """A fact for each heading of the table, in its order."""
    run: dict[str, Value] = {name: value for name, value in plan.items() if isinstance(value, str | int | float)}
    run |= {option.name: value for option in options if (value := _value(plan, option)) is not None}
    said: dict[str, list[str]] = {}
    for option in options:
        heading = option.label if option.heading is None else option.heading
        value = _value(plan, option)
        if heading and value is not None and (words := option.say(_shown(option, value), run)):
            said.setdefault(heading, []).append(words)
    for heading, parts in said.items():
        yield Fact(heading, ", ".join(parts))


def _value(plan: Mapping[str, Any], option: Option) -> Value | None:
    """The option's value where the plan has one of its type; a flag that was not given is none."""
    found: object = plan
    for name in option.path:
        found = found.get(name) if isinstance(found, Mapping) else None
    if option.kind is bool:
        return found if isinstance(found, bool) and (found or option.negative) else None
    if option.kind is str:
        return _text(found) or None
    return _number(found)


def _shown(option: Option, value: Value) -> str:
    if isinstance(value, bool):
        return option.words[value]
    if isinstance(value, str):
        return value
    if option.unit == "s":
        return figures.duration(value)
    return f"{value * 100:g} %" if option.unit == "%" else f"{value:g}" if option.kind is float else f"{value}"


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


def _prompt(plan: Mapping[str, Any], prepared: Prepared | None) -> Iterator[Fact]:
    """Before the preparation nobody knows whether the model has a tokeniser."""
    tokens = _number(plan.get("prompt_tokens"))
    repeated = f"{tokens} tokens: a built-in text, repeated and truncated"
    if prepared is not None and prepared.prompt_text is None:
        count = len(prepared.prompts[0]) if prepared.prompts else tokens
        yield Fact("prompt", f"{count} random tokens: the model has no tokeniser")
    elif tokens is not None and prepared is not None:
        yield Fact("prompt", repeated)
    elif tokens is not None:
        yield Fact("prompt", f"{repeated}; random if the model has no tokeniser")
    elif prompt := _text(plan.get("prompt")) or _text(prepared.prompt_text if prepared else None):
        yield Fact("prompt", prompt)
        yield Fact("chat template", _template(plan, prepared))


def _template(plan: Mapping[str, Any], prepared: Prepared | None) -> str:
    asked = plan.get("template")
    if prepared is None and asked is None:
        return "the model's, if it has one"
    used = asked is True if prepared is None else prepared.prompt_template
    return "the model's" if used else "none: raw prompt"


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""


def _number(value: object) -> int | float | None:
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value
