"""Statistics of repeated blocks: Student's t on per-block values, and on paired per-block log ratios.

The unit of replication is a block, one fresh process of one method; requests within a block are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the bounds of its confidence interval, all in the unit of the values."""

    estimate: float
    low: float
    high: float


def t_quantile(confidence: float, degrees: int) -> float:
    """Two-sided quantile of Student's t distribution for a confidence level in (0, 1)."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """t interval of the mean of per-block values; None under three blocks."""
    n = len(values)
    if n < LEAST_BLOCKS:
        return None
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = t_quantile(confidence, n - 1) * math.sqrt(variance / n)
    return Interval(mean, mean - half, mean + half)


def log_ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """log(value/reference) of blocks paired by position; both must be positive and of one length."""
    return [math.log(value / reference) for value, reference in zip(values, references, strict=True)]


def ratio_interval(values: Sequence[float], references: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Geometric mean of the paired ratios with its t interval on the log scale; None under three pairs."""
    interval = mean_interval(log_ratios(values, references), confidence)
    if interval is None:
        return None
    return Interval(math.exp(interval.estimate), math.exp(interval.low), math.exp(interval.high))
