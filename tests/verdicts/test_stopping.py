"""When a method is done, and what the intervals of such a session allow for."""

from __future__ import annotations

import pytest

from sessions.verdict.statistics import LogRatio, t_quantile
from sessions.verdict.stopping import EARLY, LEAST_FOR_WIDTH, done, looked_at, noise_sentence, rounds_to_go, width
from sessions.verdict.verdicts import LOOK, judge


def ratio(mean: float, spread: float, blocks: int) -> LogRatio:
    return LogRatio(mean, spread / blocks**0.5, blocks - 1, blocks)


def test_an_interval_that_was_looked_at_spends_a_part_of_the_error() -> None:
    plain, looked = ratio(0.1, 0.02, 5), looked_at(ratio(0.1, 0.02, 5))
    narrow, wide = plain.interval(), looked.interval()
    assert narrow is not None
    assert wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high
    at_its_level = plain.interval(1 - 0.05 * LOOK)
    assert at_its_level == wide
    assert looked.p_within(0.99, 1.01) == pytest.approx(plain.p_within(0.99, 1.01) / LOOK)


def test_a_method_is_done_once_its_interval_is_narrow_enough_whatever_the_ratio() -> None:
    for mean in (0.0, 0.004, 2.0):
        near = ratio(mean, 0.02, 5)
        reach = width(near)
        assert reach is not None
        assert reach == pytest.approx(2.718281828 ** (t_quantile(1 - 0.05 * LOOK, 4) * 0.02 / 5**0.5) - 1)
        assert done({"near": near}, reach) == {"near"}
    assert done({"near": ratio(0.0, 0.02, 5)}, 0.9 * (width(ratio(0.0, 0.02, 5)) or 0)) == set()


def test_an_interval_that_is_narrow_by_chance_after_few_rounds_stops_nothing() -> None:
    """Of two methods that compute the same, three rounds on two cores gave 1.14 (1.08 to 1.19)."""
    few = {str(blocks): ratio(0.06, 0.0148, blocks) for blocks in range(3, LEAST_FOR_WIDTH)}
    assert all((width(each) or 1) <= 0.07 for each in few.values())
    assert done(few, 0.07) == set()
    assert (rounds_to_go(few["3"], 0.07) or (0, 0))[0] == LEAST_FOR_WIDTH - 3
    assert done({"enough": ratio(0.06, 0.0148, LEAST_FOR_WIDTH)}, 0.07) == {"enough"}


def test_a_method_far_from_its_reference_is_done_though_its_interval_is_wide() -> None:
    far, edge = ratio(2.0, 0.2, 4), ratio(0.3, 0.1, 5)
    assert (width(far) or 0) > 0.3
    assert done({"far": far}, 0.05) == {"far"}
    assert edge.p_within(0.99, 1.01) < 0.05
    assert edge.p_within(0.99, 1.01) > 0.05 * EARLY
    assert done({"edge": edge}, 0.05) == set(), "a fixed number of blocks would decide it, a look does not"


def test_nothing_is_done_before_three_rounds() -> None:
    assert done({"two": ratio(2.0, 0.001, 2)}, 0.5) == set()
    assert width(ratio(2.0, 0.001, 2)) is None
    assert rounds_to_go(ratio(2.0, 0.001, 2), 0.05) is None


def test_the_rounds_to_go_are_a_range_that_holds_what_the_spread_itself_would_take() -> None:
    least, most = rounds_to_go(ratio(0.0, 0.08, 5), 0.05) or (0, 0)
    needed = next(n for n in range(5, 200) if (width(ratio(0.0, 0.08, n)) or 1) <= 0.05)
    assert 0 < least < needed - 5 < most
    assert rounds_to_go(ratio(0.0, 0.0001, 5), 0.05) == (0, 0)


def test_what_is_not_told_apart_says_how_near_and_why() -> None:
    (verdict,) = judge([looked_at(ratio(0.02, 0.05, 9))])
    assert verdict.kind == "not apart"
    assert verdict.sentence == "1.02× (0.97–1.07): not told apart from 1 at ±5.0 %"
    sentence = noise_sentence("vllm", ratio(0.02, 0.08, 4), 0.05)
    assert sentence.startswith("vllm's ratio varies by 8.0 % from round to round on this machine: about 14 more rounds")
    assert noise_sentence("vllm", ratio(0.02, 0.001, 4), 0.05) == ""
    assert "about 1 more round would" in noise_sentence("vllm", ratio(0.02, 0.022, 4), 0.05)
