"""Requests that overlap, put together by hand: when each began, and when each of its tokens came, in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from sessions.disk.frame_schema import REQUESTS, TOKENS
from sessions.frames.metrics import per_request, rates
from sessions.frames.point_figures import with_steady_tokens
from sessions.frames.response_tokens import ResponseTokens
from sessions.frames.steady import with_steady

SECOND = 1_000_000_000
KEY = {"session": "s", "method": "m", "block": 0, "attempt": 0}
# Two at once, one starting a second after the other: both are in flight from 1 s to 8 s.
TWO_AT_ONCE = {
    0: (0.0, [1.0, 2.0, 3.0, 4.0]),
    1: (1.0, [2.0, 3.0, 4.0, 5.0]),
    2: (4.1, [5.0, 6.0, 7.0, 8.0]),
    3: (5.1, [6.0, 7.0, 8.0, 9.0]),
}


def frames(responses: Mapping[int, tuple[float, Sequence[float]]], **columns: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The requests and tokens of one point, two at once unless the columns say otherwise. A column is one value, or a
    list of one for each request."""
    tokens = pl.DataFrame(
        [
            (*KEY.values(), request, 0, index, round(time * SECOND), index)
            for request, (_, times) in responses.items()
            for index, time in enumerate(times)
        ],
        schema=TOKENS,
        orient="row",
    )
    rows = [
        KEY
        | {"request": request, "start_ns": round(begun * SECOND), "warmup": False, "finish_reason": "length"}
        | {"point": "c2", "concurrency": 2, "prompt_tokens": 10, "stretch": 0, "scheduled_ns": round(begun * SECOND)}
        | {name: value[place] if isinstance(value, list) else value for name, value in columns.items()}
        for place, (request, (begun, _)) in enumerate(responses.items())
    ]
    asked = pl.DataFrame(rows, schema={name: kind for name, kind in REQUESTS.items() if name in rows[0]})
    requests = asked.join(
        per_request(tokens), on=["method", "block", "attempt", "request"], how="left", maintain_order="left"
    )
    requests = requests.with_columns(rates("scheduled_ns"))
    requests = requests.with_columns(
        pl.lit(None, dtype=kind).alias(name) for name, kind in REQUESTS.items() if name not in requests.columns
    )
    return with_steady_tokens(with_steady(requests), ResponseTokens.of(tokens)).select(list(REQUESTS)), tokens
