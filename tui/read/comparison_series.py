"""What the Compare screen plots of picked rows: rates request by request, and memory and power on one time axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from sessions.frames.counting import counted_blocks, counted_requests, in_their_order, with_stretch
from sessions.frames.timeline import Span

if TYPE_CHECKING:
    from sessions.disk.store import Store
    from sessions.frames.tracks import Together

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
        counted = in_their_order(counted_requests(runs, requests).filter(pl.col("method") == method), "start_ns")
        rates = counted.select("e2e_tok_s").collect()["e2e_tok_s"].to_list()
    span = _last_block(runs, method)
    if span is None:
        return PickSeries(session, method, rates, Curve([], []), Curve([], []), False)
    memory, power = (
        metric_curve(store, session, [span], "gpu", GPU_MEMORY),
        metric_curve(store, session, [span], "gpu", GPU_POWER),
    )
    on_gpu = bool(memory.values)
    if not on_gpu:
        memory = metric_curve(store, session, [span], "runner", "rss_bytes")
        power = metric_curve(store, session, [span], "runner", "cpu_percent")
    return PickSeries(session, method, rates, memory, power, on_gpu)


def _last_block(runs: pl.LazyFrame | None, method: str) -> Span | None:
    if runs is None:
        return None
    ended = counted_blocks(runs).filter((pl.col("method") == method) & pl.col("ended_ns").is_not_null())
    frame = in_their_order(ended, "started_ns").select("stretch", "started_ns", "ended_ns").tail(1).collect()
    return Span(*frame.row(0)) if len(frame) else None


def metric_curve(
    store: Store,
    session: str,
    spans: Iterable[Span],
    sources: str,
    metric: str,
    *,
    together: Together = "sum",
    most: int = MOST_POINTS,
) -> Curve:
    """A metric over spans of time, one after another, at most `most` points: of the sources whose names begin so
    `together`."""
    telemetry = store.scan("telemetry", [session])
    if telemetry is None:
        return Curve([], [])
    seconds: list[float] = []
    values: list[float] = []
    for span in spans:
        frame = _within(with_stretch(telemetry), span, sources, metric, together).collect()
        seconds += map(span.seconds, frame["t_ns"].to_list())
        values += frame["value"].to_list()
    every = max(1, -(-len(seconds) // most))
    return Curve(seconds[::every], values[::every])


def _within(telemetry: pl.LazyFrame, span: Span, sources: str, metric: str, together: Together) -> pl.LazyFrame:
    value = pl.col("value")
    shown = {"sum": value.sum(), "mean": value.mean(), "highest": value.max()}[together]
    return (
        telemetry.filter(
            (pl.col("metric") == metric)
            & pl.col("source").str.starts_with(sources)
            & pl.col("value").is_not_null()
            & span.holds("t_ns")
        )
        .with_columns((pl.col("t_ns") // 100_000_000).alias("tick"))
        .group_by("tick", "source")
        .agg(pl.col("value").mean(), pl.col("t_ns").first())
        .group_by("tick")
        .agg(shown, pl.col("t_ns").min())
        .sort("t_ns")
    )


def longest(curves: Sequence[Curve]) -> tuple[float, float] | None:
    """The common time axis of several curves: from 0 to the last of all their points."""
    ends = [curve.seconds[-1] for curve in curves if curve.seconds]
    return (0.0, max(ends)) if ends else None
