"""A timed call that returns one or several metrics, checked for impossible values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from probes.base.reading import OK, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RETURNED_RUBBISH: Final = "the driver returned an impossible value"


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's name, unit and plausible range."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `read()` gives one value for each of `metrics`, in their order. It may raise."""

    metrics: tuple[Metric, ...]
    read: Callable[[], Sequence[float]]


def take(source: str, call: Call, now_ns: Callable[[], int]) -> list[Reading]:
    """Make the call and turn its results into readings. Exceptions of the call pass through."""
    before = now_ns()
    values = call.read()
    after = now_ns()
    middle, cost = (before + after) // 2, (after - before) / 1000
    readings = []
    for metric, value in zip(call.metrics, values, strict=True):
        if metric.low <= value <= metric.high:
            readings.append(Reading(source, metric.name, metric.unit, float(value), middle, cost, OK))
        else:
            said = f"{value:g}" if math.isfinite(value) else "no number"
            status = f"{RETURNED_RUBBISH}: {said} {metric.unit}"
            readings.append(Reading(source, metric.name, metric.unit, None, middle, cost, status))
        cost = 0.0
    return readings


def failed(source: str, call: Call, status: str, t_ns: int, call_us: float = 0.0) -> list[Reading]:
    """The readings of a call that returned nothing, with the reason."""
    return [
        Reading(source, metric.name, metric.unit, None, t_ns, 0.0 if place else call_us, status)
        for place, metric in enumerate(call.metrics)
    ]
