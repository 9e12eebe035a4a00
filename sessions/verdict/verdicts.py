"""The verdict that a ratio and its uncertainty support, in words.

"Faster" needs an interval that excludes 1 ± 1 %, at a level that Holm's procedure assigns to each ratio of one
comparison. An undecided one says how many more blocks would probably decide it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from sessions.verdict.statistics import LEAST_BLOCKS, Interval, LogRatio, holm, t_quantile

THRESHOLD: Final = 0.01  # differences below this do not matter
SMALL: Final = 0.05  # a bound on the difference that is worth stating
MOST_MORE: Final = 100
ALPHA: Final = 0.05
LOOK: Final = 0.4  # of the error, for every interval of a session whose number of blocks followed from its blocks

Kind = Literal["faster", "slower", "alike", "not apart", "undecided"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`interval` is at the level that Holm's procedure gave it (95 % for one ratio alone); None under three blocks.

    `more` is how many more blocks would do, None if the verdict needs none or the number is unknown; `add` how many
    would do if they are added to this session.
    """

    kind: Kind
    sentence: str
    interval: Interval | None = None
    more: int | None = None
    add: int | None = None


def judge(ratios: Sequence[LogRatio]) -> list[Verdict]:
    """A verdict for each ratio of one comparison, in their order."""
    levels = holm([ratio.p_within(1 - THRESHOLD, 1 + THRESHOLD) for ratio in ratios], ALPHA)
    return [_verdict(ratio, clears, level) for ratio, (clears, level) in zip(ratios, levels, strict=True)]


def exploratory(ratio: LogRatio) -> Verdict:
    """A verdict on a ratio that no procedure counts with others, and that is said to be so."""
    (verdict,) = judge([ratio])
    return replace(verdict, sentence=f"{verdict.sentence} (exploratory)")


def _verdict(ratio: LogRatio, clears: bool, level: float) -> Verdict:
    interval = ratio.interval(1 - level)
    plain = ratio.interval()
    if interval is None or plain is None:
        return _too_few(ratio, level, None)
    if clears and ratio.mean > 0:
        return Verdict("faster", _times(ratio.ratio, plain.low, plain.high, "faster"), interval)
    if clears:
        return Verdict("slower", _times(1 / ratio.ratio, 1 / plain.high, 1 / plain.low, "slower"), interval)
    largest = largest_difference(interval)
    if largest <= SMALL:
        return Verdict("alike", f"no difference larger than {percent(largest)}", interval)
    if ratio.share < 1:  # it was measured until its interval was as narrow as asked for, or its time was up
        return Verdict(
            "not apart", _not_apart(ratio, interval), interval, blocks_to_decide(ratio, level), to_add(ratio, level)
        )
    return _too_few(ratio, level, interval)


def largest_difference(interval: Interval) -> float:
    """The largest difference from 1 within the interval of a ratio, as a share."""
    return max(interval.high - 1, 1 - interval.low, 0.0)


def percent(share: float) -> str:
    """A share as a percentage, rounded up."""
    points = math.ceil(share * 1000 - 1e-9) / 10
    return f"{points:.1f} %" if points < 10 else f"{math.ceil(share * 100 - 1e-9)} %"


def _times(ratio: float, low: float, high: float, word: str) -> str:
    digits = 3 if ratio < 1.1 else 2 if ratio < 20 else 1  # 1.01× and 1.014× are not the same claim
    return f"{ratio:.{digits}f}× {word}, {low:.{digits}f}–{high:.{digits}f}"


def says_faster(sentence: str) -> bool:
    """Whether a verdict's sentence is that of "faster"."""
    return "× faster, " in sentence


def _not_apart(ratio: LogRatio, interval: Interval) -> str:
    reach = max(interval.high / ratio.ratio - 1, 1 - interval.low / ratio.ratio)
    shown = f"{ratio.ratio:.2f}× ({interval.low:.2f}–{interval.high:.2f})"
    return f"{shown}: not told apart from 1 at ±{percent(reach)}"


def _too_few(ratio: LogRatio, level: float, interval: Interval | None) -> Verdict:
    more = blocks_to_decide(ratio, level)
    if ratio.error is None:
        least = LEAST_BLOCKS - ratio.blocks
        said = f"too few blocks to say: {least} more are the least"
    elif more is None:
        said = f"too few blocks to say: more than {MOST_MORE} more would be needed"
    else:
        said = f"too few blocks to say: about {more} more would do"
    return Verdict("undecided", said, interval, more, to_add(ratio, level))


def to_add(ratio: LogRatio, level: float) -> int | None:
    """How many blocks to add to a session, whose intervals then have to allow for the look at those that there are."""
    if ratio.error is None:
        return LEAST_BLOCKS - ratio.blocks
    return blocks_to_decide(replace(ratio, share=min(ratio.share, LOOK)), level)


def blocks_to_decide(ratio: LogRatio, level: float) -> int | None:
    """How many more blocks would decide if mean and spread stay as they are; None over MOST_MORE, or unknown.
    Decided means: the interval clears 1 ± 1 %, or lies within 1 ± 5 %.
    """
    if ratio.error is None:
        return None
    spread = ratio.error * math.sqrt(ratio.blocks)

    def decides(blocks: int) -> bool:
        degrees = ratio.degrees * (blocks - 1) / max(1, ratio.blocks - 1)
        half = t_quantile(1 - level * ratio.share, degrees) * spread / math.sqrt(blocks)
        low, high = math.exp(ratio.mean - half), math.exp(ratio.mean + half)
        return low > 1 + THRESHOLD or high < 1 - THRESHOLD or largest_difference(Interval(1, low, high)) <= SMALL

    numbers = range(max(LEAST_BLOCKS, ratio.blocks + 1), ratio.blocks + MOST_MORE + 1)
    place = bisect_left(numbers, True, key=decides)  # more blocks narrow the interval: once decided, ever decided
    return numbers[place] - ratio.blocks if place < len(numbers) else None
