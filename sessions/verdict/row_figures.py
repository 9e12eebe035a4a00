"""A row's figures that concern one method of one session alone, before it is compared."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from typing import Final

from sessions.disk.frame_schema import FrameRow
from sessions.disk.point import ALONE
from sessions.frames.bandwidth_limit import mbu
from sessions.frames.counting import block_counts
from sessions.frames.flags import merged
from sessions.verdict.compared_sessions import NOT_TOLD, ComparisonFrames
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.result_columns import Stored, columns_of
from sessions.verdict.statistics import interval_from_zero

BLOCK_BOUNDS: Final = ("block_mean", "block_low", "block_high")
OVER_BLOCKS: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "most": max,
    "least": min,
}


def row_of(
    frames: ComparisonFrames, session: str, method: str, row_type: type[ComparisonRow], point: str = ALONE
) -> ComparisonRow:
    """The row with all that follows from the method's own runs and requests at a point."""
    key = (session, method, point)
    runs = frames.runs.get(key, [])
    broken = frames.problems.get(session, "")
    if not runs:
        return row_type(session, method, problem=broken or f"the session has no run of {method}")
    figures, spread = frames.figures[key], frames.spreads.get(key, {})
    interval = figures.tok_s_interval
    statuses = sorted({run["status"] or NOT_TOLD for run in runs})
    last = runs[-1]
    passed = [run for run in runs if run["equal_tokens_share"] is not None] or [last]
    said = next((run for run in passed if run["first_difference"] is not None), passed[0])
    decode = spread.get("decode_tok_s_median")
    bytes_each, bandwidth = _median(runs, "bytes_per_token"), _median(runs, "bandwidth_bytes_s")
    missing = _missing(last, figures.requests)
    share = mbu(bytes_each, decode, bandwidth)
    if share is None:
        missing["mbu"] = next(
            (missing[name] for name in ("bytes_per_token", "bandwidth_bytes_s") if name in missing),
            "no decode throughput" if decode is None else "written by a version that did not measure bandwidth",
        )
    columns = columns_of(row_type)
    make: Callable[..., ComparisonRow] = row_type
    return make(
        session=session,
        method=method,
        reference=last["reference"],
        requests=figures.requests,
        blocks=len(figures.block_means),
        tok_s_mean=figures.tok_s_mean,
        tok_s_low=interval.low if interval else None,
        tok_s_high=interval.high if interval else None,
        ttft_s_median=figures.ttft_s_median,
        itl_s_p50=spread.get("itl_s_p50"),
        itl_s_p99=spread.get("itl_s_p99"),
        peak_vram_bytes=figures.peak_vram_bytes,
        energy_j_per_token=figures.energy_j_per_token,
        mbu=share,
        in_effect=figures.in_effect,
        flags=merged((run["block"], flag) for run in runs for flag in run["flags"] or () if flag),
        load_s_median=figures.load_s_median,
        peak_rss_bytes=figures.peak_rss_bytes,
        equal_tokens_share=said["equal_tokens_share"],
        difference=said["difference"] or "",
        status="ok" if statuses == ["ok"] else ", ".join(statuses),
        in_effect_reason=figures.in_effect_reason,
        problem=figures.error or broken,
        missing=missing,
        **{key: spread.get(key) for key in columns.stored("requests")},
        **{key: _over_blocks(runs, stored) for key, stored in columns.stored("runs").items()},
    )


def _missing(run: FrameRow, requests: int) -> dict[str, str]:
    try:
        told = json.loads(run["missing"] or "{}")
    except ValueError:
        told = {}
    missing = {str(name): str(reason) for name, reason in told.items()} if isinstance(told, dict) else {}
    if not requests:
        missing["tok_s_mean"] = "no timed request succeeded"
    return missing


def _median(runs: list[FrameRow], column: str) -> float | None:
    values = [run[column] for run in runs if run[column] is not None]
    return statistics.median(values) if values else None


def _over_blocks(runs: list[FrameRow], stored: Stored) -> float | None:
    """The stored column over a method's blocks, those that lack it left out; None where all do."""
    values: list[float] = [run[stored.column] for run in runs if run[stored.column] is not None]
    if stored.by == "last":
        last: float | None = runs[-1][stored.column]
        return last
    if stored.by in BLOCK_BOUNDS:
        return _over_counted(runs, stored)
    if stored.by == "sd":
        return statistics.stdev(values) if len(values) > 1 else None
    return OVER_BLOCKS[stored.by](values) if values else None


def _over_counted(runs: list[FrameRow], stored: Stored) -> float | None:
    """The mean over the blocks that count, those that lack it left out, or a bound of its interval."""
    counted = [run[stored.column] for run in runs if block_counts(run["status"])]
    values = [value for value in counted if value is not None]
    if not values:
        return None
    if stored.by == "block_mean":
        return statistics.fmean(values)
    interval = interval_from_zero(values)
    return None if interval is None else interval.low if stored.by == "block_low" else interval.high
