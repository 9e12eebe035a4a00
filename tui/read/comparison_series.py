"""What the Compare screen plots of picked rows: rates request by request, and memory and power on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from sessions.frames.counting import counted_blocks, counted_requests

if TYPE_CHECKING:
    from sessions.disk.store import Store

MOST_POINTS = 2000
GPU_POWER, GPU_MEMORY = "power_w", "memory_used_bytes"


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one metric: seconds since the beginning, and values in the metric's unit."""

    seconds: list[float]
    values: list[float]


@dataclass(frozen=True, slots=True)
class PickSeries:
    """What is plotted of one (session, method). Memory and power are of the last successful block.

    `memory_of` and `power_of` say what they are: the GPUs' VRAM and power, or on a CPU the process tree's RSS and CPU.
    """

    session: str
    method: str
    tok_s: list[float]  # e2e_tok_s of the requests that count, in their order
    memory: Curve
    power: Curve
    on_gpu: bool


def pick_series(store: Store, session: str, method: str) -> PickSeries:
    """Read one (session, method); what is missing is empty."""
    runs, requests = (store.scan(frame, [session]) for frame in ("runs", "requests"))
    rates: list[float] = []
    if runs is not None and requests is not None:
        counted = counted_requests(runs, requests).filter(pl.col("method") == method).sort("start_ns")
        rates = counted.select("e2e_tok_s").collect()["e2e_tok_s"].to_list()
    span = _last_block(runs, method)
    if span is None:
        return PickSeries(session, method, rates, Curve([], []), Curve([], []), False)
    memory, power = (
        metric_curve(store, session, span, "gpu", GPU_MEMORY),
        metric_curve(store, session, span, "gpu", GPU_POWER),
    )
    on_gpu = bool(memory.values)
    if not on_gpu:
        memory = metric_curve(store, session, span, "runner", "rss_bytes")
        power = metric_curve(store, session, span, "runner", "cpu_percent")
    return PickSeries(session, method, rates, memory, power, on_gpu)


def _last_block(runs: pl.LazyFrame | None, method: str) -> tuple[int, int] | None:
    if runs is None:
        return None
    frame = (
        counted_blocks(runs)
        .filter((pl.col("method") == method) & pl.col("ended_ns").is_not_null())
        .sort("started_ns")
        .select("started_ns", "ended_ns")
        .tail(1)
        .collect()
    )
    return frame.row(0) if len(frame) else None


def metric_curve(
    store: Store, session: str, span: tuple[int, int], sources: str, metric: str, *, highest: bool = False
) -> Curve:
    """A metric over a span of time, at most MOST_POINTS points.

    It is summed over the sources whose names begin so, or for what has no sum, such as a clock, the highest of them.
    """
    telemetry = store.scan("telemetry", [session])
    if telemetry is None:
        return Curve([], [])
    frame = (
        telemetry.filter(
            (pl.col("metric") == metric)
            & pl.col("source").str.starts_with(sources)
            & pl.col("value").is_not_null()
            & pl.col("t_ns").is_between(*span)
        )
        .with_columns((pl.col("t_ns") // 100_000_000).alias("tick"))
        .group_by("tick", "source")
        .agg(pl.col("value").mean(), pl.col("t_ns").first())
        .group_by("tick")
        .agg(pl.col("value").max() if highest else pl.col("value").sum(), pl.col("t_ns").min())
        .sort("t_ns")
        .collect()
    )
    frame = frame.gather_every(max(1, -(-len(frame) // MOST_POINTS)))
    return Curve([(t - span[0]) / 1e9 for t in frame["t_ns"].to_list()], frame["value"].to_list())


def longest(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The common time axis of several curves: from 0 to the last of all their points."""
    ends = [curve.seconds[-1] for curve in curves if curve.seconds]
    return (0.0, max(ends)) if ends else None
