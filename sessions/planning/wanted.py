"""What a person asked for of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Final

from sessions.disk.option_table import Value, changed, table
from sessions.disk.options import RunOptions
from sessions.planning.presets import PRESETS

FIXING: Final = frozenset(("requests", "blocks", "aa"))


class PlanError(Exception):
    """The request is invalid; the message is one sentence: what is wrong, and what to do."""


class Wanted:
    """The options that were `said`, by name; None, and what is not named, is as the preset has it."""

    def __init__(
        self, said: Mapping[str, Value | None], *, methods: Sequence[str] = (), command: Sequence[str] = ()
    ) -> None:
        unknown = said.keys() - {option.name for option in table(RunOptions)}
        if unknown:
            raise TypeError(f"no option of a run: {', '.join(sorted(unknown))}")
        self.methods, self.command = tuple(methods), tuple(command)
        self.said: Mapping[str, Value] = {name: value for name, value in said.items() if value is not None}

    def preset(self) -> RunOptions:
        """The options that hold where nothing is said. Raises PlanError where there is no such preset."""
        name = str(self.said.get("preset", next(iter(PRESETS))))
        if name not in PRESETS:
            raise PlanError(f"Unknown preset {name!r}: choose from {', '.join(PRESETS)}.")
        preset = PRESETS[name]
        return dataclasses.replace(preset, until=None, at_most=None) if self.is_fixed() else preset

    def options(self, drawn: Mapping[str, Value]) -> RunOptions:
        """All options: what was said, else what is `drawn`, else the preset's. Raises PlanError, OptionError."""
        return changed(self.preset(), {**drawn, **self.said})

    def is_fixed(self) -> bool:
        """Whether it was said how much is measured, so that a preset's precision no longer holds."""
        return "until" not in self.said and not FIXING.isdisjoint(self.said)
