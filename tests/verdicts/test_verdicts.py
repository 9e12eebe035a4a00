from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.coverage import WORLDS, simulate
from sessions.verdict.statistics import LogRatio, paired_ratio
from sessions.verdict.verdicts import blocks_to_decide, judge, largest_difference


def ratio_of(*ratios: float) -> LogRatio:
    ratio = paired_ratio(ratios, [1.0] * len(ratios))
    assert ratio is not None
    return ratio


@pytest.mark.parametrize(
    ("ratios", "sentence"),
    [
        ((2.30, 2.31, 2.32), "2.31× faster, 2.29–2.33"),
        ((0.5, 0.5, 0.5), "2.00× slower, 2.00–2.00"),
        ((1.03, 1.031, 1.032), "1.031× faster, 1.029–1.033"),
        ((1.0, 1.002, 0.998), "no difference larger than 0.5 %"),
        ((1.0, 1.0, 1.0), "no difference larger than 0.0 %"),
        ((1.2, 1.5, 1.1), "too few blocks to say: about 2 more would do"),
        ((1.0, 1.5, 0.7), "too few blocks to say: more than 100 more would be needed"),
        ((1.3, 1.31), "too few blocks to say: about 1 more would do"),
        ((1.3,), "too few blocks to say: 2 more are the least"),
    ],
)
def test_a_verdict_is_a_sentence(ratios: tuple[float, ...], sentence: str) -> None:
    assert judge([ratio_of(*ratios)])[0].sentence == sentence


def test_a_significant_difference_below_one_percent_is_none() -> None:
    assert judge([ratio_of(1.005, 1.0051, 1.0049)])[0].sentence == "no difference larger than 0.6 %"


def test_holm_makes_one_of_many_harder_to_believe() -> None:
    weak = ratio_of(1.1, 1.16, 1.2, 1.08)
    alone, *_ = judge([weak])
    among, *_ = judge([weak, *[ratio_of(1.0, 1.02, 0.98, 1.01)] * 4])
    assert alone.kind == "faster"
    assert among.kind == "undecided"
    assert alone.interval is not None
    assert among.interval is not None
    assert among.interval.low < alone.interval.low


def test_so_many_more_blocks_with_the_same_spread_do_decide() -> None:
    seen = [1.2, 1.4, 1.1, 1.05]
    ratio = ratio_of(*seen)
    more = blocks_to_decide(ratio, 0.05)
    assert more is not None
    spread = ratio.error
    assert spread is not None
    sd = spread * math.sqrt(4)
    decided = LogRatio(ratio.mean, sd / math.sqrt(4 + more), 3 + more, 4 + more)
    undecided = LogRatio(ratio.mean, sd / math.sqrt(3 + more), 2 + more, 3 + more)
    assert judge([decided])[0].kind == "faster"
    assert judge([undecided])[0].kind == "undecided"


@pytest.mark.parametrize("blocks", [3, 5, 10])
@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_intervals_hold_the_truth_and_equals_are_seldom_told_apart(world: object, blocks: int) -> None:
    """1,000 sessions have a standard error of 0.7 %, so 93–97 % becomes 92–98 %; benchmarks/coverage.py has 4,000."""
    rates = simulate(world, 1000, blocks, seed=7)  # type: ignore[arg-type]
    assert 0.92 <= rates.covered <= 0.98
    assert rates.false_positives <= 0.05
    assert rates.family <= 0.05
    assert rates.power >= 0.85


@pytest.mark.parametrize("spread", [0.003, 0.01, 0.03, 0.08, 0.2])
@pytest.mark.parametrize("mean", [0.0, 0.02, 0.1])
def test_the_number_of_blocks_that_would_decide_is_the_least_one(mean: float, spread: float) -> None:
    ratio = paired_ratio([math.exp(mean + spread * step) for step in (-1, 0, 1, 0.5)], [1.0] * 4)
    assert ratio is not None
    more = blocks_to_decide(ratio, 0.05)

    def decided(blocks: int) -> bool:
        error = (ratio.error or 0) * math.sqrt(ratio.blocks / blocks)
        verdict = replace(ratio, blocks=blocks, degrees=blocks - 1, error=error).interval(0.95)
        assert verdict is not None
        return verdict.low > 1.01 or verdict.high < 0.99 or largest_difference(verdict) <= 0.05

    counted = next((blocks for blocks in range(5, 105) if decided(blocks)), None)
    assert more == (None if counted is None else counted - 4)
