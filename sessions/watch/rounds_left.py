"""How many more rounds each method of a session takes that measures until it is decided: an estimate with its range."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sessions.disk.plan import Goal, Plan
from sessions.verdict.block_sums import MethodFigures
from sessions.verdict.statistics import LEAST_BLOCKS
from sessions.verdict.stopping import rounds_to_go

Range = tuple[int, int]


def rounds_left(
    plan: Plan, goal: Goal, figures: Mapping[str, MethodFigures], decided: Collection[str]
) -> dict[str, Range]:
    """(least, most) further rounds by method, 0 for those that are decided and pair with none that is not."""
    left: dict[str, Range] = {method.name: (0, 0) for method in plan.methods}
    for method in plan.methods:
        reference = figures.get(method.reference) if method.reference and method.reference != method.name else None
        if reference is None or method.name in decided:
            continue
        for name in (method.name, str(method.reference)):
            own = _range(goal, figures[method.name], reference)
            left[name] = max(left[name][0], own[0]), max(left[name][1], own[1])
    return left


def _range(goal: Goal, own: MethodFigures, reference: MethodFigures) -> Range:
    ratio = own.ratio_to(reference)
    room = max(0, goal.blocks - len(own.block_means))
    to_go = rounds_to_go(ratio, goal.until) if ratio is not None and goal.until is not None else None
    if to_go is None:
        return min(room, max(1, LEAST_BLOCKS - len(own.block_means))), room
    return min(room, max(1, to_go[0])), min(room, max(1, to_go[1]))
