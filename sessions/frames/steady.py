"""The steady part of a point, without its ramp and its tail (docs/definitions.md)."""

from __future__ import annotations

import polars as pl

from sessions.frames.counting import with_attempt, with_point
from sessions.frames.metrics import POINT_KEY
from sessions.frames.steady_edges import loop_edges, open_edges


def steady_parts(requests: pl.DataFrame) -> pl.DataFrame:
    """POINT_KEY, `steady_from_ns` and `steady_to_ns` of each attempt at a point, from its timed requests; both null
    where it never had all slots taken at once, or in an open loop none ended before the last was due.

    With C slots (of a batch or a closed loop) the part begins when C requests are first in flight, and ends with the
    first that ends once the last has begun: from then on fewer than C are in flight, and none waits. In an open loop it
    goes from the first end of a request to when the last was due.
    """
    timed = with_point(with_attempt(requests)).filter(~pl.col("warmup"), pl.col("start_ns").is_not_null())
    rows = []
    for key, own in timed.group_by(POINT_KEY, maintain_order=True):
        begin, end = _part(own)
        rows.append((*key, begin, end))
    schema = {
        "method": pl.String, "block": pl.Int64, "attempt": pl.Int64, "point": pl.String,
        "steady_from_ns": pl.Int64, "steady_to_ns": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def with_steady(requests: pl.DataFrame) -> pl.DataFrame:
    """The requests frame with `steady`: whether a request lies wholly in the steady part of its point."""
    parts = steady_parts(requests)
    inside = (pl.col("start_ns") >= pl.col("steady_from_ns")) & (pl.col("end_ns") <= pl.col("steady_to_ns"))
    steady = (inside.fill_null(value=False) & ~pl.col("warmup")).alias("steady")
    joined = requests.join(parts, on=list(POINT_KEY), how="left", maintain_order="left")
    return joined.with_columns(steady).drop("steady_from_ns", "steady_to_ns")


def _part(own: pl.DataFrame) -> tuple[int | None, int | None]:
    ends = own["end_ns"].drop_nulls().to_list()
    if own["rate"][0] is not None:
        dues = own.select(pl.coalesce("scheduled_ns", "start_ns").alias("due"))["due"].to_list()
        return open_edges(dues, ends) or (None, None)
    slots = own["batch"][0] or own["concurrency"][0] or 1
    return loop_edges(own["start_ns"].to_list(), ends, slots) or (None, None)
