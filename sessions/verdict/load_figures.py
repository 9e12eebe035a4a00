"""What a row has of a point beyond the saved columns: its place in the plan, goodput, energy, bandwidth, its ratio."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sessions.disk.frame_schema import FrameRow
from sessions.disk.plan import Plan
from sessions.disk.slo import Slo
from sessions.frames.bandwidth_limit import mbu
from sessions.frames.counting import block_counts
from sessions.verdict.load_row import LoadRow
from sessions.verdict.statistics import LogRatio, interval_from_zero, paired_ratio, unpaired_ratio

CLOSED: Final = "a closed loop, in which requests wait for one another: not what independent users would see"
STATIC: Final = "static batches, which nobody waits for: not what independent users would see"
CLOSED_QUEUE: Final = "a request is due when it is sent, but in an open loop"
NO_SLO: Final = "no bounds were asked for: use --slo"


def slo_of(plan: Plan) -> Slo | None:
    """The bounds that a session's plan has for a request."""
    return None if plan.loads.slo is None else Slo.of(plan.loads.slo)


def with_load(row: LoadRow, runs: Sequence[FrameRow], plan: Plan, kept: Mapping[int, float] | None) -> LoadRow:
    """The row of a method's runs at one point; `kept` is goodput by block, None where no bounds were asked for."""
    counted = [run for run in runs if block_counts(run["status"])]
    missing = dict(row.missing)
    step, bandwidth = _median(counted, "bytes_per_step"), _median(counted, "bandwidth_bytes_s")
    share = mbu(step, row.decode_tok_s_median, bandwidth)
    if share is not None:
        missing.pop("mbu", None)
    joules = [run["steady_energy_j"] for run in counted]
    tokens = sum(run["steady_tokens"] or 0 for run in counted)
    energy = sum(joules) / tokens if joules and tokens and None not in joules else None
    if energy is None:
        missing["energy_j_per_token"] = missing.get("steady_energy_j", "no block counts")
    values = [kept[run["block"]] for run in counted if run["block"] in kept] if kept is not None else []
    if kept is None:
        missing["goodput_rps"] = NO_SLO
    interval = interval_from_zero(values)
    if row.rate is None:  # its requests are due when they are sent; what an engine has queued is in the TTFT
        row = replace(row, queue_s_p50=None, queue_s_p90=None, queue_s_p99=None)
        missing["queue_s_p50"] = CLOSED_QUEUE
    gpus = len(plan.gpu_uuids[plan.gpus_of(row.method, 0)])
    return replace(
        row,
        primary=row.point == plan.primary.name,
        mbu=share,
        energy_j_per_token=energy,
        tok_s_gpu=row.tok_s_total / gpus if row.tok_s_total is not None and gpus else None,
        goodput_rps=statistics.fmean(values) if values else None,
        goodput_rps_low=interval.low if interval else None,
        goodput_rps_high=interval.high if interval else None,
        goodput_of=_loop(row) if values else "",
        missing=missing,
    )


def load_ratio(own: Sequence[FrameRow], base: Sequence[FrameRow], *, paired: bool) -> LogRatio | None:
    """The ratio of throughputs, from the blocks that count and have one; None without any."""
    ours, theirs = _totals(own), _totals(base)
    if not paired:
        return unpaired_ratio(list(ours.values()), list(theirs.values()))
    shared = [block for block in ours if block in theirs]
    return paired_ratio([ours[block] for block in shared], [theirs[block] for block in shared])


def _totals(runs: Sequence[FrameRow]) -> dict[int, float]:
    totals = {run["block"]: run["tok_s_total"] for run in runs if block_counts(run["status"]) and run["tok_s_total"]}
    return dict(sorted(totals.items()))


def _loop(row: LoadRow) -> str:
    if row.rate is not None:
        return ""
    return CLOSED if row.concurrency is not None else STATIC


def _median(runs: Sequence[FrameRow], column: str) -> float | None:
    values = [run[column] for run in runs if run[column] is not None]
    return statistics.median(values) if values else None
