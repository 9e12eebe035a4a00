"""Which requests count: successful timed ones, in a successful block, at the last attempt at that block.

Whatever is reported of a method is over these and no others, whether it is read from records or from frames. A frame's
column that an older Kasoku did not write is null, and stands for what was always so at the time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar

from sessions.disk.point import ALONE

if TYPE_CHECKING:
    import polars as pl

Frame = TypeVar("Frame", "pl.DataFrame", "pl.LazyFrame")

COUNTED_STATUS: Final = "ok"
COUNTED_FINISHES: Final = ("length", "eos")
OLDER: Final = {"attempt": 0, "warmup": False, "finish_reason": "length", "stretch": 0, "point": ALONE}


def block_counts(status: str | None) -> bool:
    """Whether a block that ended so counts, if it was not begun again."""
    return status == COUNTED_STATUS


def request_counts(warmup: bool, finish: str, tok_s: float | None) -> bool:
    """Whether a request counts, if its block does; `tok_s` is its e2e_tok_s."""
    return not warmup and finish in COUNTED_FINISHES and tok_s is not None and math.isfinite(tok_s) and tok_s > 0


def last_attempts(runs: Frame) -> Frame:
    """The rows of a runs frame that are the last attempts at their points in their blocks, `attempt` and `point`
    filled in."""
    import polars as pl

    attempt = pl.col("attempt")
    return with_point(with_attempt(runs)).filter(attempt == attempt.max().over("session", "method", "block", "point"))


def counted_blocks(runs: Frame) -> Frame:
    """The rows of a runs frame that count."""
    return last_attempts(runs).filter(block_ended_well())


def failed_attempts(runs: pl.DataFrame) -> pl.DataFrame:
    """The rows of a runs frame whose blocks did not end well, with `again`: whether one was begun again since."""
    import polars as pl

    attempt = pl.col("attempt")
    again = (attempt < attempt.max().over("session", "method", "block", "point")).alias("again")
    return with_point(with_attempt(runs)).with_columns(again).filter(~block_ended_well())


def block_ended_well() -> pl.Expr:
    """`block_counts` over the column `status`."""
    import polars as pl

    return pl.col("status") == COUNTED_STATUS


def timed_and_ended_well() -> pl.Expr:
    """`request_counts` over the columns `warmup`, `finish_reason` and `e2e_tok_s`."""
    import polars as pl

    rate = pl.col("e2e_tok_s")
    return ~_filled("warmup") & _filled("finish_reason").is_in(COUNTED_FINISHES) & rate.is_finite() & (rate > 0)


def counted_requests(runs: Frame, requests: Frame) -> Frame:
    """The rows of a requests frame that count, `attempt` filled in; both frames are of the same sessions."""
    from sessions.disk.frame_schema import KEY

    blocks = counted_blocks(runs).select(*KEY, "point")
    return (
        with_point(with_attempt(requests)).filter(timed_and_ended_well()).join(blocks, on=[*KEY, "point"], how="semi")
    )


def with_attempt(rows: Frame) -> Frame:
    """The same rows, `attempt` filled in where it is older than the column."""
    return rows.with_columns(_filled("attempt"))


def with_point(rows: Frame) -> Frame:
    """The same rows of runs or requests, `point` filled in where it is older than the column."""
    return rows.with_columns(_filled("point"))


def with_stretch(rows: Frame) -> Frame:
    """The same rows, `stretch` filled in where it is older than the column."""
    return rows.with_columns(_filled("stretch"))


def in_their_order(rows: Frame, time: str) -> Frame:
    """The rows of a session as they came, by a column of times; `stretch` filled in."""
    return with_stretch(rows).sort("stretch", time, nulls_last=True, maintain_order=True)


def is_steady() -> pl.Expr:
    """Whether a request lies wholly in the steady part of its point, as all do that run one at a time."""
    import polars as pl

    return pl.col("steady").fill_null(value=False) | runs_alone()


def runs_alone() -> pl.Expr:
    """Whether none runs beside a request."""
    import polars as pl

    return (pl.coalesce("batch", "concurrency", 1) == 1) & pl.col("rate").is_null()


def _filled(name: str) -> pl.Expr:
    import polars as pl

    return pl.col(name).fill_null(OLDER[name])
