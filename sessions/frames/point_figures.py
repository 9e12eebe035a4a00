"""What the requests of a point in a block come to: throughput of its steady part, and latencies of those within it.

tok_s_total = tokens that came within the steady part ÷ its length
rps         = requests, each by the share of its tokens that came within it, ÷ its length
tok_s_user  = mean of (N − 1) / (t_N − t_1) over the requests wholly within it
decoding    = ∫ n² dt ÷ ∫ n dt of the n responses that are between their first token and their last: how many
              sequences the step had, on average over the tokens
"""

from __future__ import annotations

from typing import Final

import polars as pl

from sessions.disk.frame_schema import QUANTILES
from sessions.frames.counting import is_steady, timed_and_ended_well
from sessions.frames.metrics import POINT_KEY, REQUEST_KEY
from sessions.frames.response_tokens import ResponseTokens
from sessions.frames.steady import steady_parts

LATENCIES: Final = ("ttft_s", "tpot_s", "queue_s")  # of a request; those of tokens are in metrics
S: Final = 1e-9  # seconds in a nanosecond


def with_steady_tokens(requests: pl.DataFrame, tokens: ResponseTokens) -> pl.DataFrame:
    """The requests with `steady_tokens`: how many of a response's tokens came within the steady part of its point."""
    edges = requests.join(steady_parts(requests), on=POINT_KEY).select(*REQUEST_KEY, "steady_from_ns", "steady_to_ns")
    inside = (pl.col("t_ns") > pl.col("steady_from_ns")) & (pl.col("t_ns") <= pl.col("steady_to_ns"))
    counted = [
        own.join(edges, on=REQUEST_KEY).group_by(REQUEST_KEY).agg(inside.sum().cast(pl.Int64).alias("steady_tokens"))
        for own in tokens.whole_responses(("t_ns",))
    ]
    none = requests.select(REQUEST_KEY).clear().with_columns(pl.lit(None, dtype=pl.Int64).alias("steady_tokens"))
    found = pl.concat([none, *counted], how="vertical_relaxed")
    return requests.drop("steady_tokens", strict=False).join(found, on=REQUEST_KEY, how="left", maintain_order="left")


def point_figures(requests: pl.DataFrame) -> pl.DataFrame:
    """A row per POINT_KEY with a timed request that succeeded; `requests` have their `steady_tokens`.

    Beside POINT_KEY: timed_requests, timed_tokens, wall_s and tok_s_total_whole of all of them; steady_from_ns,
    steady_to_ns and steady_s, with steady_tokens, tok_s_total, rps, in_flight (on average), decoding and
    most_decoding; and of the requests within the steady part steady_requests, tok_s_user, and p50, p90 and p99 of
    LATENCIES. Null where there is no steady part, or no request in it.
    """
    edges = steady_parts(requests)
    timed = requests.filter(timed_and_ended_well()).join(edges, on=POINT_KEY, how="left", maintain_order="left")
    timed = timed.with_columns(pl.coalesce("scheduled_ns", "start_ns").alias("due_ns"))
    steady_s = (pl.col("steady_to_ns") - pl.col("steady_from_ns")).first() * S
    whole_s = (pl.col("end_ns").max() - pl.col("due_ns").min()) * S
    known = steady_s > 0
    figures = timed.group_by(POINT_KEY, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("timed_requests"),
        pl.col("output_tokens").sum().alias("timed_tokens"),
        whole_s.alias("wall_s"),
        (pl.col("output_tokens").sum() / whole_s).alias("tok_s_total_whole"),
        pl.col("steady_from_ns").first(),
        pl.col("steady_to_ns").first(),
        steady_s.alias("steady_s"),
        pl.when(known).then(pl.col("steady_tokens").sum()).alias("steady_tokens"),
        pl.when(known).then(pl.col("steady_tokens").sum() / steady_s).alias("tok_s_total"),
        pl.when(known).then((pl.col("steady_tokens") / pl.col("output_tokens")).sum() / steady_s).alias("rps"),
    )
    steady = timed.filter(is_steady())
    of_requests = steady.group_by(POINT_KEY).agg(
        pl.len().cast(pl.Int64).alias("steady_requests"),
        pl.col("decode_tok_s").mean().alias("tok_s_user"),
        *(
            pl.col(name).quantile(share, interpolation="linear").alias(f"{name}_{quantile}")
            for name in LATENCIES
            for quantile, share in QUANTILES.items()
        ),
    )
    flying = _at_once(timed, "due_ns").select(*POINT_KEY, pl.col("mean").alias("in_flight"))
    decoding = _at_once(timed, "first_token_ns").select(
        *POINT_KEY, pl.col("of_a_token").alias("decoding"), pl.col("most").alias("most_decoding")
    )
    for more in (of_requests, flying, decoding):
        figures = figures.join(more, on=POINT_KEY, how="left", maintain_order="left")
    return figures.with_columns(pl.col("steady_requests").fill_null(0))


def _at_once(timed: pl.DataFrame, begin: str) -> pl.DataFrame:
    """POINT_KEY; `mean`: how many responses were between `begin` and their end at once, over the steady part on
    average, and `most`; `of_a_token`: the same mean, each moment as often as there are responses in it."""
    spans = timed.select(
        *POINT_KEY,
        "steady_from_ns",
        "steady_to_ns",
        pl.max_horizontal(begin, "steady_from_ns").alias("begin"),
        pl.min_horizontal("end_ns", "steady_to_ns").alias("end"),
    ).filter(pl.col("end") > pl.col("begin"))
    spans = spans.filter(pl.col("steady_from_ns").is_not_null())
    edges = [
        spans.select(*POINT_KEY, pl.col(name).alias("t_ns"), pl.lit(step, dtype=pl.Int64).alias("step"),
                     (pl.col("steady_to_ns") - pl.col("steady_from_ns")).alias("length"))
        for name, step in (("begin", 1), ("end", -1))
    ]  # fmt: skip
    held = pl.concat(edges).sort(*POINT_KEY, "t_ns", "step")  # what ends does so before what begins
    at_once = held.with_columns(
        pl.col("step").cum_sum().over(POINT_KEY).alias("n"),
        (pl.col("t_ns").shift(-1) - pl.col("t_ns")).over(POINT_KEY).fill_null(0).cast(pl.Float64).alias("dt"),
    )
    n, dt = pl.col("n"), pl.col("dt")
    return at_once.group_by(POINT_KEY).agg(
        ((n * dt).sum() / pl.col("length").first()).alias("mean"),
        ((n * n * dt).sum() / (n * dt).sum()).alias("of_a_token"),
        n.max().alias("most"),
    )
