from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy  # whose stats, a second and more, are loaded where they are used
from hypothesis import given
from hypothesis import strategies as st

from sessions.verdict.statistics import (
    Interval,
    holm,
    interval_from_zero,
    mean_interval,
    paired_ratio,
    ratio_interval,
    unpaired_ratio,
)

RATES = st.lists(st.floats(1, 1000), min_size=3, max_size=12)


def test_the_interval_of_a_mean_is_students() -> None:
    values = [94.1, 93.2, 95.0, 94.4, 93.9]
    interval = mean_interval(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))


def test_what_cannot_be_negative_has_no_bound_below_0() -> None:
    values = [0.010, 0.012, 0.090]
    whole = mean_interval(values)
    assert whole is not None
    assert whole.low < 0
    assert interval_from_zero(values) == Interval(whole.estimate, 0, whole.high)
    assert interval_from_zero(values[:2]) is None


@given(st.lists(st.tuples(st.floats(1, 1000), st.floats(1, 1000)), min_size=3, max_size=12))
def test_the_paired_ratio_is_the_paired_t_test_of_the_logs(pairs: list[tuple[float, float]]) -> None:
    values, references = [a for a, _ in pairs], [b for _, b in pairs]
    interval = ratio_interval(values, references)
    logs = np.log(values) - np.log(references)
    half = scipy.stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs))
    assert interval is not None
    assert math.log(interval.estimate) == pytest.approx(logs.mean(), abs=1e-9)
    assert math.log(interval.high) - math.log(interval.low) == pytest.approx(2 * half, abs=1e-9)


@given(RATES, RATES)
def test_the_unpaired_ratio_is_welchs(values: list[float], references: list[float]) -> None:
    if np.std(np.log(values)) < 1e-6 or np.std(np.log(references)) < 1e-6:
        return
    ratio = unpaired_ratio(values, references)
    expected = scipy.stats.ttest_ind(np.log(values), np.log(references), equal_var=False).confidence_interval(0.95)
    assert ratio is not None
    interval = ratio.interval()
    assert interval is not None
    assert (math.log(interval.low), math.log(interval.high)) == pytest.approx((expected.low, expected.high), rel=1e-6)


@given(st.lists(st.floats(0.9, 1.2), min_size=3, max_size=10), st.floats(0.001, 0.2))
def test_p_is_at_most_alpha_exactly_where_the_interval_clears(ratios: list[float], alpha: float) -> None:
    ratio = paired_ratio(ratios, [1.0] * len(ratios))
    assert ratio is not None
    interval = ratio.interval(1 - alpha)
    assert interval is not None
    if min(abs(interval.low - 1.01), abs(interval.high - 0.99)) < 1e-9:
        return
    clears = interval.low > 1.01 or interval.high < 0.99
    assert (ratio.p_within(0.99, 1.01) <= alpha) == clears


def test_under_three_blocks_there_is_no_interval() -> None:
    assert mean_interval([1.0, 2.0]) is None
    assert ratio_interval([1.0, 2.0], [1.0, 1.0]) is None
    ratio = paired_ratio([2.0, 2.0], [1.0, 1.0])
    assert ratio is not None
    assert ratio.p_within(0.99, 1.01) == 1.0


def test_holm_shares_alpha_out_and_stops_at_the_first_that_is_not_rejected() -> None:
    # sorted: 0.005 (0.05/4), 0.011 (0.05/3), 0.03 (0.05/2: not rejected), 0.04 (the rest share 0.025)
    results = holm([0.03, 0.005, 0.04, 0.011])
    assert [rejected for rejected, _ in results] == [False, True, False, True]
    assert [level for _, level in results] == pytest.approx([0.025, 0.0125, 0.025, 0.05 / 3])
    assert holm([]) == []


def test_comparing_imports_no_scipy_stats() -> None:
    code = (
        "import sys; from sessions.verdict.statistics import ratio_interval; ratio_interval([1, 2, 3], [1, 1, 1]);"
        " sys.exit('scipy.stats' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
