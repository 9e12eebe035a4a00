"""A/A: one method twice in a plan, so that any difference is the machine's noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sessions.disk.plan import PlannedMethod

AGAIN: Final = "-again"


def twice(methods: Sequence[PlannedMethod]) -> list[PlannedMethod]:
    """The reference among the methods, and the same again; the first of them if none is another's reference."""
    names = {method.name: method for method in methods}
    first = next((names[m.reference] for m in methods if m.reference in names), methods[0])
    alone = replace(first, reference=None)
    return [alone, replace(first, name=first.name + AGAIN, reference=first.name)]
