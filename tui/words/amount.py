"""How much a session measures, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.words.figures import duration

if TYPE_CHECKING:
    from sessions.disk.plan import Goal, Plan


def amount(plan: Plan, goal: Goal) -> str:
    """`goal` is the plan's own, or that of an extension."""
    if goal.until is None:
        more = f", extended to {goal.blocks}" if goal.blocks > plan.blocks else ""
        return f"{plan.requests} requests a method in {plan.blocks} blocks{more}"
    time = f" or {duration(goal.at_most)}" if goal.at_most is not None else ""
    return (
        f"{plan.requests // plan.blocks} requests a block, until each method is decided or known to"
        f" ±{goal.until * 100:g} %, at most {goal.blocks} blocks{time}"
    )
