"""Blocks put together by hand: a run, requests of given rates, telemetry at 10 Hz."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from sessions.disk.frame_schema import REQUESTS, RUNS, TELEMETRY, FrameRow
from sessions.disk.plan import Plan
from sessions.disk.sampling import Sampling
from sessions.frames.judged_block import Block

SECOND = 1_000_000_000
TOKENS = 64
PLAN = Plan(sampling=Sampling(max_new_tokens=TOKENS), dtype="bfloat16")


def run(**columns: Any) -> FrameRow:
    """A row of the runs frame that has nothing wrong with it."""
    row = dict.fromkeys(RUNS) | {
        "session": "s",
        "method": "fast",
        "block": 0,
        "attempt": 0,
        "status": "ok",
        "stretch": 0,
        "dtype": "bfloat16",
        "in_effect": True,
        "flags": [],
        "missing": "{}",
        "started_ns": 10 * SECOND,
        "ended_ns": 200 * SECOND,
        "evidence": "{}",
        "resolved": "{}",
    }
    return row | columns


def requests(rates: Sequence[float], **columns: Any) -> pl.DataFrame:
    """Timed requests one after the other from second 20 on, each of TOKENS tokens at the given tokens/s."""
    rows = []
    start = 20 * SECOND
    for number, rate in enumerate(rates):
        end = start + int(TOKENS / rate * SECOND)
        rows.append(
            {
                "session": "s",
                "method": "fast",
                "block": 0,
                "attempt": 0,
                "request": number,
                "sequence": 0,
                "warmup": False,
                "prompt_tokens": 48,
                "output_tokens": TOKENS,
                "finish_reason": "length",
                "start_ns": start,
                "first_token_ns": start + SECOND // 100,
                "end_ns": end,
                "e2e_tok_s": rate,
                "flags": [],
                "missing": "{}",
            }
            | {name: value[number] if isinstance(value, list) else value for name, value in columns.items()}
        )
        start = end + SECOND // 10
    return pl.DataFrame([dict.fromkeys(REQUESTS) | {"stretch": 0} | row for row in rows], schema=REQUESTS)


def telemetry(seconds: Sequence[float], **series: float | Sequence[float]) -> pl.DataFrame:
    """Readings at the given seconds: gpu0__power_w=300 is 300 W at each, a list has a value for each."""
    rows = []
    for name, values in series.items():
        source, _, metric = name.partition("__")
        for place, second in enumerate(seconds):
            value = values if isinstance(values, int | float) else values[place]
            rows.append(("s", int(second * SECOND), source, metric, "", float(value), 1.0, "ok", 0))
    return pl.DataFrame(rows, schema=TELEMETRY, orient="row")


def tenths(begin: float, end: float) -> list[float]:
    """Every tenth of a second."""
    return [begin + step / 10 for step in range(int((end - begin) * 10) + 1)]


def block(
    row: FrameRow | None = None,
    rows: pl.DataFrame | None = None,
    readings: pl.DataFrame | None = None,
    plan: Plan = PLAN,
    **more: Any,
) -> Block:
    """A block without a flaw but for what is given; quiet telemetry throughout."""
    given = rows if rows is not None else requests([64.0] * 12)
    seconds = tenths(8, 40)
    quiet = telemetry(seconds, host__cpu_percent=50, runner__cpu_percent=100)
    readings = quiet if readings is None else readings
    return Block(row or run(), given, readings, plan, **({"cores": 2} | more))


def evidence(**facts: Any) -> str:
    """Evidence as the runs frame keeps it."""
    return json.dumps(facts)
