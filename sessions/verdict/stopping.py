"""When a session that measures until it is decided may stop, and what its intervals then have to allow for.

After each round a method is done where the t interval of its ratio is as narrow as asked for: the sequential rule of
fixed width (Y. S. Chow and H. Robbins, Annals of Mathematical Statistics 36 (1965), 457-462). It depends on the spread
alone, and falls short of its coverage with few blocks, since it stops more readily where the spread happens to be small
(N. Starr, ibid. 37 (1966), 36-50); so it takes five at least. A method whose ratio is far from 1 for its spread is done
earlier: its interval excludes 1 ± 1 % though the error is shared among all looks (repeated confidence intervals: C.
Jennison and B. W. Turnbull, Journal of the Royal Statistical Society B 51 (1989), 305-361).

Both shares are constants, chosen by simulation so that the 95 % interval at the stop holds the true ratio in at least
94 % of sessions whatever ratio and spread: benchmarks/coverage_until.py, docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sessions.verdict.statistics import CONFIDENCE, LEAST_BLOCKS, LogRatio, holm
from sessions.verdict.verdicts import ALPHA, LOOK, THRESHOLD, percent

EARLY: Final = 0.05  # of the error, for stopping because a ratio is far from 1
LEAST_FOR_WIDTH: Final = 5  # rounds before a ratio is narrow enough: the spread of fewer is too often small by chance
SEARCHED_BLOCKS: Final = 100_000  # where a search for the blocks needed ends


def looked_at(ratio: LogRatio) -> LogRatio:
    """The ratio of a session that was, or may have been, measured on because of what its blocks said."""
    return replace(ratio, share=LOOK)


def width(ratio: LogRatio) -> float | None:
    """How far the interval of a ratio that is looked at reaches from it, as a share of it; None under three blocks."""
    interval = looked_at(ratio).interval(CONFIDENCE)
    return None if interval is None else interval.high / interval.estimate - 1


def done(ratios: Mapping[str, LogRatio], until: float) -> set[str]:
    """The methods that need no more rounds: decided, or known to within ± `until` (a share of the ratio)."""
    early = [replace(ratio, share=EARLY) for ratio in ratios.values()]
    tests = holm([ratio.p_within(1 - THRESHOLD, 1 + THRESHOLD) for ratio in early], ALPHA)
    decided = {name for name, (clears, _) in zip(ratios, tests, strict=True) if clears}
    return decided | {name for name, ratio in ratios.items() if narrow(ratio, until)}


def narrow(ratio: LogRatio, until: float) -> bool:
    """Whether the ratio is known to within ± `until`, from enough rounds to say so."""
    reach = width(ratio)
    return ratio.blocks >= LEAST_FOR_WIDTH and reach is not None and reach <= until


def spread(ratio: LogRatio) -> float | None:
    """How much the ratio varies from round to round: the standard deviation of its logarithm; None for one round."""
    return None if ratio.error is None else ratio.error * math.sqrt(ratio.blocks)


def noise_sentence(method: str, ratio: LogRatio, until: float) -> str:
    """Why a ratio is not known better, and what would help; empty where it is known to within ± `until`."""
    varies, reach = spread(ratio), width(ratio)
    if varies is None or reach is None or reach <= until:
        return ""
    more = _blocks_for(varies, until, ratio.blocks) - ratio.blocks
    return (
        f"{method}'s ratio varies by {percent(varies)} from round to round on this machine: about {more:,} more"
        f" round{'s' if more != 1 else ''} would bring it to ±{percent(until)}, a quieter machine sooner."
    )


def rounds_to_go(ratio: LogRatio, until: float) -> tuple[int, int] | None:
    """About how many more rounds a method takes, as a range; None under three blocks.

    The spread's own uncertainty makes the range: its 90 % interval by chi-square, n - 1 degrees of freedom.
    """
    from scipy.special import chdtri

    varies = spread(ratio)
    if ratio.blocks < LEAST_BLOCKS or varies is None:
        return None
    degrees = ratio.blocks - 1
    bounds = [varies * math.sqrt(degrees / float(chdtri(degrees, tail))) for tail in (0.05, 0.95)]
    needed = [_blocks_for(each, until, ratio.blocks) - ratio.blocks for each in bounds]
    return needed[0], needed[1]


def _blocks_for(varies: float, until: float, least: int) -> int:
    """The fewest blocks whose interval is within ± `until`, for this sd of the log ratios."""
    low = high = max(least, LEAST_FOR_WIDTH)
    while _width_at(varies, high) > until and high < SEARCHED_BLOCKS:
        low, high = high, high * 2
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _width_at(varies, middle) <= until else (middle + 1, high)
    return high


def _width_at(varies: float, blocks: int) -> float:
    return width(LogRatio(0.0, varies / math.sqrt(blocks), blocks - 1, blocks)) or 0.0
