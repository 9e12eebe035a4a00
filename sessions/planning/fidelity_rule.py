"""What a plan's fidelity is measured on: its text, and how many windows of it of which length."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Final

import methods
from methods.base.user_path import PathError, absolute, storable
from methods.models.prompts import PromptError, read_text
from sessions.disk.options import RunOptions
from sessions.disk.plan import FidelityRule, Plan

PASSAGE: Final = Path(methods.__file__).parent / "text" / "passage.txt"
TOKENS: Final = 2000  # scored in all, at least
LEAST_WINDOWS: Final = 16
MOST_SCORED: Final = 128  # of a window: more would make fewer of them, and the interval is over windows


class FidelityTextError(Exception):
    """The text cannot be scored. The message is one sentence for the user."""


def rule_of(options: RunOptions) -> tuple[RunOptions, FidelityRule]:
    """The options with the text's path as an absolute one, and the rule. Raises FidelityTextError.

    A window's scored ids are no more than the new tokens of a timed request, so that it goes through a cache of the
    same size, and the windows as many as make TOKENS, an even number.
    """
    if options.fidelity_text is not None:
        try:
            options = dataclasses.replace(options, fidelity_text=str(storable(absolute(options.fidelity_text))))
        except PathError as error:
            raise FidelityTextError(str(error)) from None
    scored = min(options.sampling.max_new_tokens, MOST_SCORED)
    windows = 2 * math.ceil(max(LEAST_WINDOWS, TOKENS / scored) / 2)
    return options, FidelityRule(text_digest=digest_of(text_of(options)), windows=windows, scored=scored)


def text_of(options: RunOptions) -> str:
    """The text that fidelity is measured on. Raises FidelityTextError."""
    try:
        path = Path(options.fidelity_text or PASSAGE)
        return read_text(path, f"The text for fidelity {path}")
    except PromptError as error:
        raise FidelityTextError(str(error)) from None


def planned_text(plan: Plan, rule: FidelityRule) -> str:
    """The text of a plan, if it is still the one that was planned. Raises FidelityTextError."""
    text = text_of(plan)
    if digest_of(text) != rule.text_digest:
        raise FidelityTextError(
            f"The text for fidelity, {plan.fidelity_text or 'the passage of this Kasoku'}, is not the one that the"
            " session was planned with: put that back and resume, or start a new session."
        )
    return text


def digest_of(text: str) -> str:
    """SHA-256 over the text's UTF-8."""
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
