"""Two requests, computed by hand.

A: t_0 = 0 s, tokens at 0.2, 0.3, 0.4, 0.6 s: N = 4, TTFT 0.2, E2E 0.6, gaps 0.1 0.1 0.2.
B: t_0 = 1 s, tokens at 1.4, 1.4, 1.5 s (the first two in one chunk): N = 3, TTFT 0.4, E2E 0.5, gaps 0 0.1.
Both with P = 10; the wall time runs from 0 to 1.5 s.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sessions.disk.frame_schema import REQUESTS, RUNS, TOKENS
from sessions.export.other_tools import OTHER_TOOLS, OtherToolError, quote
from sessions.frames.metrics import per_request, rates
from sessions.frames.response_tokens import ResponseTokens

Frames = tuple[pl.DataFrame, pl.DataFrame, ResponseTokens]
SECOND = 1_000_000_000
RESPONSES = {0: (0.0, [0.2, 0.3, 0.4, 0.6]), 1: (1.0, [1.4, 1.4, 1.5])}


@pytest.fixture
def frames() -> Frames:
    key = {"session": "s", "method": "m", "block": 0, "attempt": 0}
    tokens = pl.DataFrame(
        [
            (*key.values(), request, 0, index, round(time * SECOND), 7)
            for request, (_, times) in {**RESPONSES, -1: (-9.0, [-8.0])}.items()
            for index, time in enumerate(times)
        ],
        schema=TOKENS,
        orient="row",
    )
    asked: list[dict[str, Any]] = [
        key
        | {"request": request, "start_ns": round(start * SECOND), "warmup": request < 0, "prompt_tokens": 10}
        | {"finish_reason": "length"}
        for request, (start, _) in {**RESPONSES, -1: (-9.0, [])}.items()
    ]
    requests = (
        pl.DataFrame(asked)
        .join(per_request(tokens), on=["method", "block", "attempt", "request"])
        .with_columns(rates())
    )
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in REQUESTS.items() if name not in requests.columns]
    runs = pl.DataFrame([dict.fromkeys(RUNS) | key | {"status": "ok"}], schema=RUNS)
    return runs, requests.with_columns(absent).select(list(REQUESTS)), ResponseTokens.of(tokens)


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (
            "vllm",
            {
                "request throughput": 2 / 1.5,
                "output token throughput": 7 / 1.5,
                "total token throughput": 27 / 1.5,
                "mean TTFT": 300,
                "mean TPOT": (400 / 3 + 50) / 2,
                "mean ITL": 100,
                "median ITL": 100,
                "p99 ITL": 196,
                "median E2EL": 550,
            },
        ),
        (
            "guidellm",
            {
                "requests per second": 2 / 1.5,
                "mean output tokens per second": (4 / 0.6 + 3 / 0.5) / 2,
                "mean request latency": 0.55,
                "mean ITL": (400 / 3 + 50) / 2,
                "mean TPOT": (150 + 500 / 3) / 2,
            },
        ),
        (
            "aiperf",
            {
                "output token throughput": 7 / 1.5,
                "mean output token throughput per user": (7.5 + 10) / 2,
                "mean inter token latency": (400 / 3 + 100) / 2,
                "median time to first token": 300,
            },
        ),
        (
            "llama-bench",
            {"n_prompt": 10, "pp": (50 + 25) / 2, "n_gen": 2.5, "tg": (7.5 + 20) / 2, "tg ±": 12.5 / 2**0.5},
        ),
        (
            "optimum-benchmark",
            {
                "prefill.latency": 0.3,
                "prefill.throughput": 1 / 0.3,
                "generate.latency": 0.55,
                "decode.latency": 0.25,
                "decode.throughput": 2.5 / 0.25,
            },
        ),
    ],
)
def test_a_session_in_other_terms_is_what_a_hand_computes(
    frames: Frames, tool: str, expected: dict[str, float]
) -> None:
    (quotation,) = quote(tool, *frames)
    assert quotation.requests == 2
    values = {quantity.name: quantity.value for quantity in quotation.quantities}
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert all(quantity.formula and quantity.unit for quantity in quotation.quantities)
    assert OTHER_TOOLS[tool].note


def test_an_unknown_tool_and_an_empty_session_are_sentences(
    frames: Frames,
) -> None:
    runs, requests, tokens = frames
    with pytest.raises(OtherToolError, match="use one of vllm, guidellm"):
        quote("mlperf", *frames)
    with pytest.raises(OtherToolError, match="nothing to report"):
        quote("vllm", runs.with_columns(pl.lit("failed").alias("status")), requests, tokens)


def test_responses_of_one_token_have_no_decode_rate(frames: Frames) -> None:
    runs, requests, tokens = frames
    short = requests.with_columns(pl.lit(1, dtype=pl.Int64).alias("output_tokens"), end_ns=pl.col("first_token_ns"))
    (every,) = tokens.whole_responses(("index", "t_ns"))
    only = ResponseTokens.of(every.filter(pl.col("index") == 0))
    for tool in OTHER_TOOLS:
        (quotation,) = quote(tool, runs, short.with_columns(rates()), only)
        assert quotation.quantities
