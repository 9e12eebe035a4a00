"""Percentiles of the gaps between tokens: of each request, of each run, and of each method at a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from sessions.frames.counting import is_steady, timed_and_ended_well
from sessions.frames.metrics import ITL_QUANTILES, POINT_KEY, REQUEST_KEY, percentiles
from sessions.frames.response_tokens import ResponseTokens


def latency_percentiles(
    tokens: ResponseTokens, requests: pl.DataFrame, counted: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """ITL_QUANTILES of each request, of each run's successful timed requests, and of each method's at a point; under a
    load these are of the requests within the steady part.

    `counted` has the runs that count for their method. What has no gap is left out.
    """
    # a list a response: sorting the whole frame would take several times its size
    gap = (pl.col("t_ns").sort_by("index").diff() * 1e-9).drop_nulls()
    points = requests.filter(timed_and_ended_well(), is_steady()).select(*REQUEST_KEY, "point")
    of_requests: list[pl.DataFrame] = []
    of_runs: dict[tuple[object, ...], list[pl.Series]] = {}
    for own in tokens.whole_responses(("index", "t_ns")):
        responses = own.group_by(REQUEST_KEY).agg(gap.alias("itl_s")).filter(pl.col("itl_s").list.len() > 0)
        of_requests.append(responses.group_by(REQUEST_KEY).agg(percentiles(pl.col("itl_s").explode())))
        for key, part in responses.join(points, on=REQUEST_KEY, how="inner").group_by(POINT_KEY):
            of_runs.setdefault(key, []).append(part["itl_s"].explode())
    of_methods: dict[tuple[object, ...], list[pl.Series]] = {}
    for method, block, attempt, point in counted.select(POINT_KEY).iter_rows():
        if gaps := of_runs.get((method, block, attempt, point)):
            of_methods.setdefault((method, point), []).extend(gaps)
    return (
        pl.concat(of_requests),
        _percentiles_of(of_runs, POINT_KEY, requests),
        _percentiles_of(of_methods, ("method", "point"), requests),
    )


def _percentiles_of(
    gaps: Mapping[tuple[object, ...], Sequence[pl.Series]], key: Sequence[str], like: pl.DataFrame
) -> pl.DataFrame:
    """The percentiles over all gaps of each; the columns of its key are as in `like`."""
    rows = []
    for name, each in gaps.items():
        all_of_it = pl.concat(each)
        quantiles = [all_of_it.quantile(share, interpolation="linear") for share in ITL_QUANTILES.values()]
        rows.append((*name, *quantiles))
    schema = {column: like.schema[column] for column in key} | dict.fromkeys(ITL_QUANTILES, pl.Float64)
    return pl.DataFrame(rows, schema=schema, orient="row")
