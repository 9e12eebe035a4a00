"""A session's model, with the type of its weights where that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from methods.models.served import SERVED, is_served

if TYPE_CHECKING:
    from sessions.disk.plan import Plan


def model_text(plan: Plan) -> str:
    """In which precision a server holds its own model, nobody else knows."""
    if is_served(plan.model):
        return f"{plan.model.removeprefix(SERVED)} as its server has it (dtype not known)"
    return f"{plan.model}, {plan.dtype}"
