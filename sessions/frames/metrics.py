"""The numbers derived from token times, under their definitions (docs/definitions.md).

For N tokens that reached the host at t_1 … t_N of a request due at t_0, which is when it begins but in an open loop:
TTFT = t_1 − t_0; e2e = t_N − t_0;
e2e_tok_s = N / e2e, what the article reports; decode_tok_s = (N − 1) / (t_N − t_1); ITL = the gaps t_{i+1} − t_i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from sessions.disk.frame_schema import QUANTILES
from sessions.frames.counting import is_steady, timed_and_ended_well

REQUEST_KEY = ("method", "block", "attempt", "request", "sequence")
RUN_KEY: Final = ("method", "block", "attempt")
POINT_KEY: Final = (*RUN_KEY, "point")
ITL_QUANTILES: Final = {f"itl_s_{name}": share for name, share in QUANTILES.items()}


def per_request(tokens: pl.DataFrame) -> pl.DataFrame:
    """A row per response of a tokens frame: REQUEST_KEY, output_tokens, first_token_ns, end_ns."""
    return tokens.group_by(REQUEST_KEY, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("output_tokens"),
        pl.col("t_ns").min().alias("first_token_ns"),
        pl.col("t_ns").max().alias("end_ns"),
    )


def rates(due: str = "start_ns") -> list[pl.Expr]:
    """ttft_s, e2e_s, decode_tok_s, e2e_tok_s of rows with first_token_ns, end_ns, output_tokens and the time `due`."""
    seconds = 1e-9
    e2e = (pl.col("end_ns") - pl.col(due)) * seconds
    decode = (pl.col("end_ns") - pl.col("first_token_ns")) * seconds
    return [
        ((pl.col("first_token_ns") - pl.col(due)) * seconds).alias("ttft_s"),
        e2e.alias("e2e_s"),
        pl.when((pl.col("output_tokens") > 1) & (decode > 0))
        .then((pl.col("output_tokens") - 1) / decode)
        .alias("decode_tok_s"),
        pl.when(pl.col("output_tokens") > 1).then(decode / (pl.col("output_tokens") - 1)).alias("tpot_s"),
        pl.when((pl.col("output_tokens") > 0) & (e2e > 0)).then(pl.col("output_tokens") / e2e).alias("e2e_tok_s"),
    ]


def acceptance() -> pl.Expr:
    """accepted_per_step of rows with accepted_tokens and decode_steps; null where nothing is known of drafts."""
    return (pl.when(pl.col("decode_steps") > 0).then(pl.col("accepted_tokens") / pl.col("decode_steps"))).alias(
        "accepted_per_step"
    )


def inter_token_latencies(tokens: pl.LazyFrame) -> pl.LazyFrame:
    """The tokens frame with `itl_s`, the gap to the previous token of the same response; null for a first token."""
    key = ("session", *REQUEST_KEY)
    return tokens.sort(*key, "index").with_columns(
        ((pl.col("t_ns") - pl.col("t_ns").shift(1).over(key)) * 1e-9).alias("itl_s")
    )


def percentiles(gaps: pl.Expr | None = None) -> list[pl.Expr]:
    """ITL_QUANTILES of the gaps (the column `itl_s`), between neighbouring gaps by linear interpolation."""
    each = pl.col("itl_s") if gaps is None else gaps
    return [each.quantile(share, interpolation="linear").alias(name) for name, share in ITL_QUANTILES.items()]


def latency_percentiles(
    tokens: pl.DataFrame, requests: pl.DataFrame, counted: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """ITL_QUANTILES of each request, of each run's successful timed requests, and of each method's at a point; under a
    load these are of the requests within the steady part.

    `counted` has the runs that count for their method. What has no gap is left out.
    """
    # a list a response: sorting the whole frame would take several times its size
    gap = (pl.col("t_ns").sort_by("index").diff() * 1e-9).drop_nulls()
    responses = tokens.group_by(REQUEST_KEY).agg(gap.alias("itl_s")).filter(pl.col("itl_s").list.len() > 0)
    points = requests.filter(timed_and_ended_well(), is_steady()).select(*REQUEST_KEY, "point")
    timed = responses.join(points, on=REQUEST_KEY, how="inner")
    return (
        _percentiles_by(responses, REQUEST_KEY),
        _percentiles_by(timed, POINT_KEY),
        _percentiles_by(timed.join(counted, on=POINT_KEY, how="semi"), ("method", "point")),
    )


def _percentiles_by(responses: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The percentiles over the gaps of all responses of a group; `itl_s` is a list of gaps a response."""
    return responses.group_by(key).agg(percentiles(pl.col("itl_s").explode()))
