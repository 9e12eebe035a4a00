"""Whether a method still generates the same text: its greedy pass against its reference's, on the same prompt.

A pass is what the runner left in a block's evidence under `greedy`: `ids`, and for each of them `margins`, the distance
between the two best logits where the token was chosen (None if the engine does not expose its logits).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Spacing of numbers between 16 and 32, where a chosen logit usually lies: two of them closer than two steps are a tie.
STEP: Final = {"bfloat16": 0.125, "float16": 2.0**-6, "float32": 2.0**-19}


@dataclass(frozen=True, slots=True)
class GreedyPass:
    """Token IDs chosen greedily, and the margin at each (None: unknown); `reason` says why the pass is missing."""

    ids: tuple[int, ...]
    margins: tuple[float | None, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """`first` is the index of the first token that differs, None if none does; `share` of the reference's tokens
    that are equal at their place; `margin` of the reference's two best logits there; `sentence` says it all."""

    first: int | None
    share: float
    margin: float | None
    near_tie: bool | None
    sentence: str


def greedy_pass(evidence: object) -> GreedyPass | None:
    """The pass in a block's evidence (JSON text or object); None if missing or unreadable."""
    try:
        facts = json.loads(evidence) if isinstance(evidence, str) else evidence
    except ValueError:
        return None
    said = facts.get("greedy") if isinstance(facts, Mapping) else None
    if not isinstance(said, Mapping):
        missing = facts.get("missing") if isinstance(facts, Mapping) else None
        reason = missing.get("greedy") if isinstance(missing, Mapping) else None
        return GreedyPass((), reason=str(reason)) if reason else None
    ids = said.get("ids")
    if not isinstance(ids, list) or not ids or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        return None
    margins = said.get("margins")
    rows = margins if isinstance(margins, list) and len(margins) == len(ids) else [None] * len(ids)
    return GreedyPass(tuple(ids), tuple(_finite(margin) for margin in rows))


def difference(own: GreedyPass, reference: GreedyPass, dtype: str) -> Difference:
    """Where a method's pass diverges from its reference's; both must have tokens."""
    pairs = list(zip(own.ids, reference.ids, strict=False))
    longest = max(len(own.ids), len(reference.ids))
    share = sum(a == b for a, b in pairs) / longest
    first = next((index for index, (a, b) in enumerate(pairs) if a != b), None)
    if first is None and len(own.ids) != len(reference.ids):
        first = len(pairs)
    if first is None:
        return Difference(None, 1.0, None, None, f"all {longest} greedy tokens are the reference's")
    margin = reference.margins[first] if first < len(reference.margins) else None
    tie = None if margin is None else margin <= near_tie(dtype)
    said = (
        f"the greedy text diverges from the reference's at token {first}, {share * 100:.0f} % of the tokens are equal"
    )
    if margin is not None:
        said += (
            f"; the reference's two best logits there are {margin:.3g} apart, "
            + ("a near tie" if tie else "not a tie")
            + f" in {dtype}"
        )
    return Difference(first, share, margin, tie, said)


def near_tie(dtype: str) -> float:
    """The largest margin that rounding alone can reverse: two steps of the dtype at the magnitude of usual logits."""
    return 2 * STEP.get(dtype, 0.0)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
