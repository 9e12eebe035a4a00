"""A plan's prompts as token IDs of its model."""

from __future__ import annotations

import dataclasses
from typing import Final

from methods.models.model import Model
from methods.models.prompts import Mode, Prompt, digest_of, make
from sessions.disk.plan import Plan

MOST_VARIANTS: Final = 64  # prompts of one length, so that requests under load do not share one
MOST_IDS: Final = 1 << 18  # of all prompts together, more or less: a journal keeps them in one line

Length = tuple[int | None, int]  # tokens of the prompt, None: of the plan's text; and those before it, in the cache


def prompts_of(plan: Plan, model: Model) -> list[Prompt]:
    """The prompts that every method of the plan gets; PromptError if they do not fit the model.

    Under a load there are several of each length that is asked for, where no text is. For a model without a tokeniser,
    a preset's own text is replaced by random IDs.
    """
    return [prompt for length in _lengths(plan) for prompt in _made(plan, model, length)]


def prompt_index(plan: Plan, place: int, position: int) -> int:
    """Which of them a request takes at a point, by its position among the timed ones there; warm-ups come before 0.

    Every point of a length has the same prompts, so that what is generated to them can be compared.
    """
    own = _length(plan, place)
    before = 0
    for length in _lengths(plan):
        if length == own:
            break
        before += _variants(plan, length)
    return before + position % _variants(plan, own)


def _length(plan: Plan, place: int) -> Length:
    return plan.points[place].isl or plan.prompt_tokens, plan.points[place].depth


def _lengths(plan: Plan) -> list[Length]:
    return list(dict.fromkeys(_length(plan, place) for place in range(len(plan.points))))


def _variants(plan: Plan, length: Length) -> int:
    tokens, depth = length
    if not plan.has_load or tokens is None:
        return 1
    return max(1, min(MOST_VARIANTS, MOST_IDS // len(_lengths(plan)) // (tokens + depth)))


def _made(plan: Plan, model: Model, length: Length) -> list[Prompt]:
    tokens, depth = length
    new_tokens = max(plan.new_tokens(place) for place in range(len(plan.points)) if _length(plan, place) == length)
    text = plan.prompt if plan.prompt_given or (model.has_tokeniser and tokens is None) else None
    mode: Mode | None = None if plan.template is None else "chat" if plan.template else "raw"
    if mode == "chat" and not plan.prompt_given and not model.has_tokeniser:
        mode = None
    whole = None if tokens is None else tokens + depth
    prompt = make(model, text, mode, tokens=whole, max_new_tokens=new_tokens, seed=plan.seed)
    if tokens is None and depth:
        before = make(model, tokens=depth, max_new_tokens=len(prompt.ids) + new_tokens, seed=plan.seed)
        return [_with_ids(prompt, (*before.ids, *prompt.ids))]
    count = _variants(plan, length)
    if whole is None or count == 1:
        return [prompt]
    boundless = dataclasses.replace(model, context_length=None)
    ids = make(boundless, text, mode, tokens=whole + count - 1, seed=plan.seed).ids
    # each begins one token later, so that no two have a prefix in common
    return [_with_ids(prompt, ids[start : start + whole]) for start in range(count)]


def _with_ids(prompt: Prompt, ids: tuple[int, ...]) -> Prompt:
    return dataclasses.replace(prompt, ids=ids, digest=digest_of(ids))
