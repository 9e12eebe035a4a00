"""A plan's prompt as token IDs of its model."""

from __future__ import annotations

from methods.models.model import Model
from methods.models.prompts import Mode, Prompt, make
from sessions.disk.plan import Plan


def prompt_of(plan: Plan, model: Model) -> Prompt:
    """The IDs that every method of the plan gets; PromptError if they do not fit the model.

    For a model without a tokeniser, a preset's own text is replaced by random IDs.
    """
    text = plan.prompt if plan.prompt_given or (model.has_tokeniser and plan.prompt_tokens is None) else None
    mode: Mode | None = None if plan.template is None else "chat" if plan.template else "raw"
    if mode == "chat" and not plan.prompt_given and not model.has_tokeniser:
        mode = None
    return make(
        model, text, mode, tokens=plan.prompt_tokens, max_new_tokens=plan.sampling.max_new_tokens, seed=plan.seed
    )
