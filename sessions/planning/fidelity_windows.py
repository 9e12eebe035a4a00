"""The windows of fidelity as ids of a model: half of them text, and the contexts that the reference continues."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

from methods.models.model import Model
from methods.text.tokeniser import Tokeniser, TokeniserError
from sessions.disk.plan import Plan
from sessions.disk.records import Window
from sessions.planning.fidelity_rule import FidelityTextError, planned_text, rule_of

TEXT, GREEDY = "text", "greedy"  # the strata
REACHED: Final = 0.9  # of a text's characters, which come back when its ids are decoded


@dataclass(frozen=True, slots=True)
class Windows:
    """`texts` are whole; each of the `contexts` becomes one with `scored` ids of the reference's."""

    texts: list[Window]
    contexts: list[list[int]]
    scored: int


def windows_of(plan: Plan, model: Model, prompt_tokens: int) -> Windows:
    """The windows of a plan's text for a model. Raises FidelityTextError.

    The scored ids of the windows of text lie apart, spread evenly over the text, each after as much of it as a timed
    request's prompt is long, as far as there is so much; the contexts end half-way between two of them.
    """
    rule = plan.fidelity_rule or rule_of(plan)[1]
    try:
        tokeniser = Tokeniser(model.folder)
    except TokeniserError as error:
        raise FidelityTextError(str(error)) from None
    text = planned_text(plan, rule)
    ids, beginning = tokeniser.encode(text), tokeniser.beginning()
    _check_reach(text, ids, tokeniser, model)
    number, scored = rule.windows // 2, rule.scored
    needed = number * scored + (0 if beginning else 1)
    if len(ids) < needed:
        raise FidelityTextError(
            f"The text for fidelity has {len(ids):,} tokens of {model.name}'s tokeniser, and {needed:,} are needed:"
            " name a longer one with --fidelity-text."
        )
    body = max(prompt_tokens - len(beginning), 0 if beginning else 1)
    first = min(body, len(ids) - number * scored)
    step = (len(ids) - first) // number
    starts = [first + place * step for place in range(number)]
    texts = [
        Window(ids=[*beginning, *ids[max(0, start - body) : start + scored]], scored=scored, stratum=TEXT)
        for start in starts
    ]
    ends = [start + (step + 1) // 2 for start in starts]
    return Windows(texts, [[*beginning, *ids[max(0, end - body) : end]] for end in ends], scored)


def _check_reach(text: str, ids: list[int], tokeniser: Tokeniser, model: Model) -> None:
    """Refuse a text that the tokeniser cannot spell, or whose ids the model has no weights for."""
    if model.vocab_size is not None and any(index >= model.vocab_size for index in ids):
        raise FidelityTextError(
            f"The text for fidelity has tokens that are not in {model.name}'s vocabulary of {model.vocab_size:,}: name"
            " another with --fidelity-text."
        )
    written, again = (Counter("".join(each.split())) for each in (text, tokeniser.decode(ids)))
    share = (written & again).total() / max(1, written.total())
    if share < REACHED:
        raise FidelityTextError(
            f"The text for fidelity is out of reach of {model.name}'s tokeniser, which can spell {share * 100:.0f} % of"
            " its characters: name one in a language of the model with --fidelity-text."
        )
