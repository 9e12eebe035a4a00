"""Energy from telemetry: the integral of power, and the energy counter read between its samples.

A block's energy is the counters' difference at its edges; this module provides checks and per-request values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

LEAST_S: Final = 5.0  # the counter moves ten times a second and is read once: a shorter span would mostly be error
MOST_GAP_S: Final = 1.0


def power_integral(telemetry: pl.DataFrame, sources: Sequence[str], begin_ns: int, end_ns: int) -> float | None:
    """Joules of the GPUs `sources` over a span, trapezoidal; None if a GPU's power is not known throughout."""
    total = 0.0
    for source in sources:
        times, watts = _series(telemetry, source, "power_w", begin_ns, end_ns)
        if len(times) < 2 or np.diff(np.concatenate([[begin_ns], times, [end_ns]])).max() > MOST_GAP_S * 1e9:
            return None
        edges = np.concatenate([[begin_ns], times, [end_ns]])
        total += float(np.trapezoid(np.interp(edges, times, watts), edges)) / 1e9
    return total if sources else None


def counter_difference(
    telemetry: pl.DataFrame, sources: Sequence[str], spans: Sequence[tuple[int, int]]
) -> list[float | None]:
    """Joules of the GPUs over each span, interpolating linearly between the counter's samples.

    None for a span shorter than LEAST_S, or not within the samples.
    """
    edges = np.array(spans, dtype=np.int64).reshape(-1, 2)
    joules = np.zeros(len(edges))
    known = np.full(len(edges), bool(sources)) & (edges[:, 1] - edges[:, 0] >= LEAST_S * 1e9)
    for source in sources:
        times, values = _series(telemetry, source, "energy_j", None, None)
        if len(times) < 2:
            return [None] * len(edges)
        known &= (edges[:, 0] >= times[0]) & (edges[:, 1] <= times[-1])
        joules += np.diff(np.interp(edges, times, values))[:, 0]  # all at once: each call reads the whole series
    return [float(value) if told else None for value, told in zip(joules, known, strict=True)]


def _series(
    telemetry: pl.DataFrame, source: str, metric: str, begin_ns: int | None, end_ns: int | None
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    rows = telemetry.filter(
        (pl.col("source") == source) & (pl.col("metric") == metric) & pl.col("value").is_finite()
    ).sort("t_ns")
    if begin_ns is not None and end_ns is not None:
        rows = rows.filter(pl.col("t_ns").is_between(begin_ns, end_ns))
    return rows["t_ns"].to_numpy(), rows["value"].to_numpy()
