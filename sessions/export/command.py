"""The command that carries a plan out again."""

from __future__ import annotations

import shlex
from typing import Final

from sessions.disk.option_table import table
from sessions.disk.plan import Plan
from sessions.planning.presets import PRESETS

LONGEST_ARGUMENT: Final = 100_000  # bytes; Linux takes 128 KiB


def command_of(plan: Plan) -> str:
    """For a shell. Everything is said but what only the preset can say: methods that nobody named, its own prompt."""
    prompt = _prompt(plan)
    piped = prompt is not None and _piped(prompt)
    words = ["kasoku", "run"]
    names = list(dict.fromkeys(method.row for method in plan.methods if method.named))
    for name in names[:1] if plan.aa else names:
        words += ["--method", name]
    for option in table(type(plan)):
        value = option.of(plan)
        if option.name == "prompt":
            value = "-" if piped else prompt
        words += option.arguments(value)
    command = shlex.join(words)
    return f"{_printing(prompt)} | {command}" if piped and prompt is not None else command


def _prompt(plan: Plan) -> str | None:
    preset = PRESETS.get(plan.preset)
    own = preset is not None and plan.prompt == preset.prompt and not plan.prompt_given
    return None if own or plan.prompt_tokens is not None else plan.prompt


def _piped(prompt: str) -> bool:
    """Whether an argument cannot hold it, or would mean a file or standard input."""
    return prompt == "-" or prompt[:1] == "@" or "\0" in prompt or len(prompt.encode()) > LONGEST_ARGUMENT


def _printing(prompt: str) -> str:
    if "\0" in prompt:
        return shlex.join(["printf", "%b", prompt.replace("\\", "\\\\").replace("\0", "\\0000")])
    return shlex.join(["printf", "%s", prompt])
