"""The columns of the runs frame that belong to a point: its figures, its energy, and what it has of the text alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import polars as pl

from sessions.disk.frame_schema import FrameRow
from sessions.frames import energy
from sessions.frames.counting import runs_alone, timed_and_ended_well
from sessions.frames.metrics import POINT_KEY, REQUEST_KEY
from sessions.frames.point_figures import point_figures
from sessions.frames.response_tokens import ResponseTokens

NO_STEADY_PART: Final = (
    "there were never as many requests in flight as were to be, from the beginning of one to its end"
)
NONE_ENDED: Final = "no request ended before the last was due: let the open loop go on for longer"
NOT_GREEDY: Final = "tokens were sampled: then no two responses are alike"
NOTHING_ALONE: Final = "no response to the same prompt was generated alone: add 1 to the list of the load"
SHAPE: Final = ("isl", "osl", "depth")


def add_point_figures(rows: Sequence[FrameRow], requests: pl.DataFrame, *, load: bool) -> None:
    """Add the figures of each row's point and, under a `load`, the reason for a missing throughput."""
    figures = {tuple(row[name] for name in POINT_KEY): row for row in point_figures(requests).iter_rows(named=True)}
    for row in rows:
        found = figures.get(tuple(row[name] for name in POINT_KEY), {})
        row |= {name: value for name, value in found.items() if name not in POINT_KEY}
        if load and found and found["tok_s_total"] is None:
            row["missing"]["tok_s_total"] = _no_steady_part(row)


def _no_steady_part(row: FrameRow) -> str:
    return NO_STEADY_PART if row.get("rate") is None else NONE_ENDED


def add_steady_energy(row: FrameRow, telemetry: pl.DataFrame, sources: Sequence[str]) -> None:
    """Fill in the joules of a row's steady part; `telemetry` is that around its block."""
    begin, end = row["steady_from_ns"], row["steady_to_ns"]
    if not sources:
        row["missing"]["steady_energy_j"] = "no GPU was used"
    elif begin is None or end is None:
        row["missing"]["steady_energy_j"] = _no_steady_part(row)
    else:
        row["steady_energy_j"] = energy.counter_difference(telemetry, sources, [(begin, end)])[0]
        if row["steady_energy_j"] is None:
            lasted = (end - begin) / 1e9
            short = f"the steady part lasted {lasted:.1f} s; the energy counter needs {energy.LEAST_S:g} s or more"
            told = short if lasted < energy.LEAST_S else "the energy counter was not read around the steady part"
            row["missing"]["steady_energy_j"] = told


def add_equal_shares(rows: Sequence[FrameRow], requests: pl.DataFrame, tokens: ResponseTokens, *, greedy: bool) -> None:
    """Fill in the share of a point's responses whose ids are those of the first response to the same prompt that the
    method generated alone, with the same lengths."""
    shares: dict[tuple[object, ...], float] = {}
    if greedy:
        timed = requests.filter(timed_and_ended_well()).select(
            *REQUEST_KEY, "point", "prompt_index", *SHAPE, runs_alone().alias("alone")
        )
        shares = _shares(timed.join(tokens.counted, on=REQUEST_KEY, how="semi", maintain_order="left"), tokens)
    for row in rows:
        row["equal_alone_share"] = shares.get(tuple(row[name] for name in POINT_KEY))
        if row["equal_alone_share"] is None:
            row["missing"]["equal_alone_share"] = NOTHING_ALONE if greedy else NOT_GREEDY


def _shares(timed: pl.DataFrame, tokens: ResponseTokens) -> dict[tuple[object, ...], float]:
    """By POINT_KEY."""
    prompt = ("method", "prompt_index", *SHAPE)
    first = timed.filter("alone").sort("block", "attempt", "request").unique(prompt, keep="first", maintain_order=True)
    if first.is_empty():
        return {}
    alone = pl.concat(
        said.join(first, on=REQUEST_KEY).select(*prompt, pl.col("ids").alias("ids_alone"))
        for said in _said(tokens, first)
    )
    compared = pl.concat(
        said.join(timed, on=REQUEST_KEY)
        .join(alone, on=prompt, nulls_equal=True)
        .select(*POINT_KEY, (pl.col("ids") == pl.col("ids_alone")).alias("equal"))
        for said in _said(tokens, timed)
    )
    shares = compared.group_by(POINT_KEY).agg(pl.col("equal").mean())
    return {tuple(row[name] for name in POINT_KEY): row["equal"] for row in shares.iter_rows(named=True)}


def _said(tokens: ResponseTokens, responses: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """REQUEST_KEY and `ids` of these responses, some of them at a time."""
    for own in tokens.whole_responses(("index", "token_id"), responses.select(REQUEST_KEY)):
        yield own.group_by(REQUEST_KEY).agg(pl.col("token_id").sort_by("index").alias("ids"))
