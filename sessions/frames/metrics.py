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


def joined_up(counted: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """What `per_request` gives of a tokens frame, from what it gives of the frame's parts."""
    return (
        pl.concat(counted)
        .group_by(REQUEST_KEY, maintain_order=True)
        .agg(pl.col("output_tokens").sum(), pl.col("first_token_ns").min(), pl.col("end_ns").max())
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
    """A session's tokens with `itl_s`, the gap to the previous token of the same response; null for a first token."""
    return tokens.sort(*REQUEST_KEY, "index").with_columns(
        ((pl.col("t_ns") - pl.col("t_ns").shift(1).over(REQUEST_KEY)) * 1e-9).alias("itl_s")
    )


def percentiles(gaps: pl.Expr | None = None) -> list[pl.Expr]:
    """ITL_QUANTILES of the gaps (the column `itl_s`), between neighbouring gaps by linear interpolation."""
    each = pl.col("itl_s") if gaps is None else gaps
    return [each.quantile(share, interpolation="linear").alias(name) for name, share in ITL_QUANTILES.items()]
