"""Figures of fidelity, against scipy's and against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy  # whose stats, a second and more, are loaded where they are used
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.coverage_fidelity import WORLDS, World, coverage, verdicts
from sessions.verdict.fidelity_figures import Figures, Window, per_token, share, wilson
from tests.verdicts.made_windows import TOKENS, figures, window

MEANS = st.lists(st.floats(-0.5, 2), min_size=3, max_size=32)


@given(MEANS)
def test_windows_of_one_length_give_students_interval_of_their_means(means: list[float]) -> None:
    loss = figures(means).loss
    assert loss is not None
    interval = loss.interval()
    half = scipy.stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / math.sqrt(len(means))
    assert interval is not None
    assert (interval.estimate, interval.low, interval.high) == pytest.approx(
        (np.mean(means), np.mean(means) - half, np.mean(means) + half), abs=1e-9
    )


def test_a_longer_window_weighs_by_its_tokens_and_so_does_the_error() -> None:
    windows = [window(0, 0.1, tokens=100), window(1, 0.4, tokens=200), window(2, 0.1, tokens=100)]
    mean = per_token(windows, lambda each: each.nll - each.nll_reference)
    assert mean.estimate == pytest.approx(0.25)  # 10 + 80 + 10 nats over 400 tokens; the mean of the windows' is 0.2
    squares = 2 * (10 - 25) ** 2 + (80 - 50) ** 2
    assert mean.error == pytest.approx(math.sqrt(3 / 2 * squares) / 400)


def test_two_windows_have_no_interval() -> None:
    loss = figures([0.1, 0.2]).loss
    assert loss is not None
    assert loss.estimate == pytest.approx(0.15)
    assert loss.interval() is None


def test_the_perplexity_ratio_is_that_of_both_perplexities() -> None:
    own = figures([0.01, 0.02, 0.06])
    nll, reference = (sum(getattr(each, name) for each in own.windows) for name in ("nll", "nll_reference"))
    assert own.perplexity_ratio == pytest.approx(math.exp(nll / own.tokens) / math.exp(reference / own.tokens))
    assert figures([800.0, 800.0, 800.0]).perplexity_ratio is None


def test_the_tail_is_of_tokens_in_both_directions() -> None:
    each = [0.0] * 98 + [-3.0, 1.0]
    one = Window(0, "text", 100, -2.0, 0.0, 100, 100, 100, worst=3.0, differences=each)
    own = Figures((one, one, one))
    assert own.worst == 3.0
    assert own.p99 == pytest.approx(np.quantile(np.abs(each * 3), 0.99))


def test_scores_that_are_no_numbers_leave_no_loss() -> None:
    broken = Figures((*figures([0.1] * 4).windows, window(4, math.nan, non_finite=3)))
    assert broken.non_finite == 3
    assert broken.loss is None
    assert broken.perplexity_ratio is None
    assert broken.worst is None


def test_agreement_is_split_at_the_references_near_ties() -> None:
    own = Figures(tuple(Window(n, "text", 100, 0.0, 0.0, 90, 78, 80) for n in range(4)))
    agreed, clear, near = own.agreement, own.clear_agreement, own.near_agreement
    assert agreed is not None
    assert clear is not None
    assert near is not None
    assert agreed.estimate == pytest.approx(0.9)
    assert clear.estimate == pytest.approx(78 / 80)
    assert near.estimate == pytest.approx(12 / 20)
    assert Figures((Window(0, "text", 10, 0.0, 0.0, 10, 0, 0),)).clear_agreement is None


@given(st.lists(st.tuples(st.integers(0, 50), st.just(50)), min_size=3, max_size=20))
def test_the_interval_of_a_share_is_never_narrower_than_wilsons(counts: list[tuple[int, int]]) -> None:
    interval = share(counts)
    hits, of = (sum(column) for column in zip(*counts, strict=True))
    expected = scipy.stats.binomtest(hits, of).proportion_ci(0.95, method="wilson")
    assert wilson(hits, of) == pytest.approx((expected.low, expected.high))
    assert interval is not None
    assert interval.low <= expected.low + 1e-12
    assert interval.high >= expected.high - 1e-12
    assert share(counts) == interval  # the seed is fixed


def test_windows_that_differ_widen_the_interval_of_a_share() -> None:
    even, uneven = share([(45, 50)] * 16), share([(50, 50)] * 12 + [(30, 50)] * 4)
    assert even is not None
    assert uneven is not None
    assert even.estimate == uneven.estimate == 0.9
    assert uneven.high - uneven.low > 1.5 * (even.high - even.low)


def test_divergence_needs_it_of_every_window() -> None:
    def own(kl: Sequence[float | None]) -> Figures:
        return Figures(tuple(window(n, 0.0, kl=each) for n, each in enumerate(kl)))

    told = own([1.28, 2.56, 3.84]).divergence
    assert told is not None
    assert told.estimate == pytest.approx(2.56 / TOKENS)
    assert own([1.28, None, 3.84]).divergence is None
    assert own([1.28, math.inf, 3.84]).divergence is None
    assert own([1.28, 2.56, 3.84]).divergence_bound is None


@given(st.integers(1, 20), st.integers(0, 20))
def test_the_halves_share_no_window_and_lack_none_and_have_both_strata(texts: int, greedy: int) -> None:
    own = Figures(tuple(window(n, 0.0, stratum="text" if n < texts else "greedy") for n in range(texts + greedy)))
    halves = own.half("even"), own.half("odd")
    even, odd = (set() if half is None else {window.number for window in half.windows} for half in halves)
    assert not even & odd
    assert even | odd == set(range(texts + greedy))
    for stratum, count in (("text", texts), ("greedy", greedy)):
        of = own.of_stratum(stratum)
        numbers = {w.number for w in of.windows} if of else set()
        assert len(numbers) == count
        assert len(numbers & even) - len(numbers & odd) in (0, 1)


def test_identical_means_every_score_and_every_likeliest_token() -> None:
    same = Figures(tuple(window(n, 0.0, worst=0.0) for n in range(3)))
    assert same.identical
    assert not figures([0.0, 0.0, 0.1]).identical
    assert not Figures((*same.windows, window(3, 0.0, worst=0.0, equal=TOKENS - 1))).identical


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_intervals_hold_the_truth(world: World) -> None:
    """600 sessions have a standard error of 0.9 %, so 93–97 % becomes 91–99 %; the benchmark has 4,000."""
    losses, agreements = coverage(world, 600, 16, seed=7)
    assert 0.91 <= losses <= 0.99
    assert 0.90 <= agreements <= 0.99


def test_no_loss_is_hardly_ever_called_one_and_a_large_one_is_always_found() -> None:
    none, large = verdicts(0.0, 200, 16, seed=7), verdicts(0.02, 200, 16, seed=7)
    assert none["no loss found"] >= 195
    assert none["differs"] <= 2
    assert large["differs"] == 200
