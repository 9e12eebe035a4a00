"""Statistics of repeated blocks: Student's t on per-block values, and on per-block log ratios; Holm over several tests.

The unit of replication is a block, one fresh process of one method; requests within a block are not independent. Only
scipy.special is imported, and that when the first quantile is asked for: scipy.stats takes five times as long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

LEAST_BLOCKS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of its confidence interval, all in the unit of the values."""

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Of an interval of a mean, also where its lower end was cut off."""
        return self.high - self.estimate


@dataclass(frozen=True, slots=True)
class LogRatio:
    """log(method ÷ reference) as estimated from blocks: mean, its standard error, degrees of freedom, blocks.

    `error` is None where one block, or pair of blocks, shows no spread. `share` is the part of the error probability
    that this look may spend: 1 where the number of blocks was fixed beforehand, less where it followed from the blocks
    (sessions/verdict/stopping.py).
    """

    mean: float
    error: float | None
    degrees: float
    blocks: int
    share: float = 1.0

    @property
    def ratio(self) -> float:
        return math.exp(self.mean)

    def interval(self, confidence: float = CONFIDENCE) -> Interval | None:
        """t interval of the ratio; None under three blocks."""
        if self.blocks < LEAST_BLOCKS or self.error is None:
            return None
        half = t_quantile(1 - (1 - confidence) * self.share, self.degrees) * self.error
        return Interval(math.exp(self.mean), math.exp(self.mean - half), math.exp(self.mean + half))

    def p_within(self, low: float, high: float) -> float:
        """p of the hypothesis that the true ratio lies within [low, high]; 1 under three blocks.

        At most alpha exactly where the t interval of confidence 1 − alpha lies outside [low, high].
        """
        if self.blocks < LEAST_BLOCKS or self.error is None:
            return 1.0
        outside = max(self.mean - math.log(high), math.log(low) - self.mean)
        if self.error == 0:
            return 0.0 if outside > 0 else 1.0
        from scipy.special import stdtr

        return min(1.0, 2 * float(stdtr(self.degrees, -outside / self.error)) / self.share)


@lru_cache(maxsize=4096)
def t_quantile(confidence: float, degrees: float) -> float:
    """Two-sided quantile of Student's t distribution for a confidence level in (0, 1)."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """t interval of the mean of per-block values; None under three blocks."""
    n = len(values)
    if n < LEAST_BLOCKS:
        return None
    mean, variance = _moments(values)
    half = t_quantile(confidence, n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half)


def interval_from_zero(values: Sequence[float]) -> Interval | None:
    """That interval of what cannot be negative: where Student's would begin below 0, it begins there."""
    interval = mean_interval(values)
    return None if interval is None else replace(interval, low=max(0.0, interval.low))


def log_ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """log(value/reference) of blocks paired by position; both must be positive and of one length."""
    return [math.log(value / reference) for value, reference in zip(values, references, strict=True)]


def paired_ratio(values: Sequence[float], references: Sequence[float]) -> LogRatio | None:
    """The ratio from blocks paired by position (Student's t on their log ratios); None without a pair."""
    logs = log_ratios(values, references)
    if not logs:
        return None
    mean, variance = _moments(logs)
    n = len(logs)
    return LogRatio(mean, math.sqrt(variance / n) if n > 1 else None, max(1, n - 1), n)


def unpaired_ratio(values: Sequence[float], references: Sequence[float]) -> LogRatio | None:
    """The ratio from blocks that have no partner, as of two sessions: Welch's t on the logs of the block means."""
    if not values or not references:
        return None
    (mean, variance), (base, spread) = _moments([*map(math.log, values)]), _moments([*map(math.log, references)])
    n, m = len(values), len(references)
    if min(n, m) < 2:
        return LogRatio(mean - base, None, 1, min(n, m))
    own, other = variance / n, spread / m
    squares = own**2 / (n - 1) + other**2 / (m - 1)
    degrees = (own + other) ** 2 / squares if squares > 0 else n + m - 2
    return LogRatio(mean - base, math.sqrt(own + other), degrees, min(n, m))


def ratio_interval(
    values: Sequence[float], references: Sequence[float], confidence: float = CONFIDENCE
) -> Interval | None:
    """Geometric mean of the paired ratios with its t interval on the log scale; None under three pairs."""
    ratio = paired_ratio(values, references)
    return ratio.interval(confidence) if ratio else None


def holm(p_values: Sequence[float], alpha: float = 1 - CONFIDENCE) -> list[tuple[bool, float]]:
    """Holm–Bonferroni, for each test whether it is rejected and its alpha, in their order.

    The k-th smallest of m p values is compared with alpha/(m − k + 1); at the first that is not rejected the procedure
    stops, and the rest share its alpha. S. Holm, Scandinavian Journal of Statistics 6 (1979), 65–70.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    results = [(False, alpha)] * len(order)
    stopped: float | None = None
    for rank, index in enumerate(order):
        level = alpha / (len(order) - rank) if stopped is None else stopped
        rejected = stopped is None and p_values[index] <= level
        if not rejected:
            stopped = level
        results[index] = (rejected, level)
    return results


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and variance with n − 1 (0 for one value)."""
    n = len(values)
    mean = math.fsum(values) / n
    return mean, math.fsum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else 0.0
