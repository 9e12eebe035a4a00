"""How much a session measures, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.words.figures import duration

if TYPE_CHECKING:
    from sessions.disk.plan import Goal, Plan


def amount(plan: Plan, goal: Goal) -> str:
    """`goal` is the plan's own, or that of an extension."""
    points = f" at {len(plan.points)} points" if len(plan.points) > 1 else ""
    if goal.until is None:
        more = f", extended to {goal.blocks}" if goal.blocks > plan.blocks else ""
        time = f", at most {duration(goal.at_most)}" if goal.at_most is not None else ""
        return f"{plan.requests_in(plan.blocks)} requests a method{points} in {plan.blocks} blocks{more}{time}"
    each = plan.requests_in(1) if plan.has_load else plan.requests // plan.blocks
    time = f" or {duration(goal.at_most)}" if goal.at_most is not None else ""
    return (
        f"{each} requests a block{points}, until each method is decided or known to"
        f" ±{goal.until * 100:g} %, at most {goal.blocks} blocks{time}"
    )
