"""Points in the terms of other tools, computed by hand of the requests in tests/validity/made_loads.py.

Two at once: four responses of 4 tokens each, from 0 to 9 s; TTFT 1, 1, 0.9, 0.9 s, E2E 4, 4, 3.9, 3.9 s, all gaps 1 s.
In a batch: two begin at 0 s, their first tokens come at 1 and 2 s, their last (of 3) at 4 and 5 s.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from sessions.disk.frame_schema import RUNS
from sessions.export.other_tools import Quotation, quote
from sessions.frames.response_tokens import ResponseTokens
from tests.validity.made_loads import KEY, SECOND, TWO_AT_ONCE, frames

BATCH = {10: (20.0, [21.0, 22.5, 24.0]), 11: (20.0, [22.0, 23.5, 25.0])}


def quoted(tool: str, **columns: Any) -> list[Quotation]:
    loop, said = frames(TWO_AT_ONCE, **columns)
    batch, beside = frames(BATCH, concurrency=None, batch=2, point="batch 2")
    runs = pl.DataFrame([dict.fromkeys(RUNS) | KEY | {"status": "ok", "point": point} for point in ("c2", "batch 2")],
                        schema=RUNS)  # fmt: skip
    return quote(tool, runs, pl.concat([loop, batch]), ResponseTokens.of(pl.concat([said, beside])))


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (
            "vllm",
            {
                "request throughput": 4 / 9,
                "output token throughput": 16 / 9,
                "total token throughput": 56 / 9,
                "mean TTFT": 950,
                "mean TPOT": 1000,
                "p99 ITL": 1000,
                "mean E2EL": 3950,
            },
        ),
        (
            "guidellm",
            {
                "requests per second": 4 / 9,
                "request concurrency": 15.8 / 9,
                "mean output tokens per second": (1 + 4 / 3.9) / 2,
                "mean TTFT": 950,
                "mean ITL": 1000,
            },
        ),
        (
            "aiperf",
            {
                "output token throughput": 16 / 9,
                "mean output token throughput per user": 1,
                "mean time to first token": 950,
            },
        ),
        (
            "genai-bench",
            {
                "requests_per_second": 4 / 9,
                "mean_input_throughput": 40 / 9,
                "mean_output_throughput": 16 / 9,
                "mean_total_tokens_throughput": 56 / 9,
                "mean ttft": 0.95,
                "mean tpot": 1.0,
                "mean output_inference_speed": 1.0,
                "mean e2e_latency": 3.95,
                "mean input_throughput": (10 + 10 / 0.9) / 2,
            },
        ),
        ("llama-bench", {"n_prompt": 10, "pp": (10 + 10 / 0.9) / 2, "tg": 1.0}),
    ],
)
def test_a_closed_loop_is_quoted_with_its_ramp_and_tail(tool: str, expected: dict[str, float]) -> None:
    loop, batch = quoted(tool)
    assert [(each.point, each.requests) for each in (loop, batch)] == [("c2", 4), ("batch 2", 2)]
    values = {quantity.name: quantity.value for quantity in loop.quantities}
    assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_a_batch_is_quoted_as_llama_batched_bench_does() -> None:
    loop, batch = quoted("llama-bench")
    values = {quantity.name: quantity.value for quantity in batch.quantities}
    expected = {"B": 2, "S_PP": 20 / 2, "S_TG": 4 / 3, "S": 24 / 5}
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert "S_TG" not in {quantity.name for quantity in loop.quantities}


def test_a_request_begins_when_it_is_sent() -> None:
    """These tools count from there, whenever it was due."""
    due = [0, SECOND // 2, 2 * SECOND, 5 * SECOND]
    loop, _ = quoted("vllm", scheduled_ns=due)
    values = {quantity.name: quantity.value for quantity in loop.quantities}
    assert values["mean TTFT"] == pytest.approx(950)
