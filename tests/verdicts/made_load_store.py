"""Sessions under load with whole frames, whose points have the throughput that a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from methods.base.memory_bandwidth import MemoryBandwidth
from probes.machine import Machine
from sessions.disk.frame_schema import FIDELITY, REQUESTS, RUNS, TELEMETRY, TOKENS, FrameRow
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.point import Point
from sessions.disk.records import Prepared
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import SessionFolder, create
from sessions.frames.derived import Context, complete
from sessions.frames.metrics import per_request, rates
from sessions.frames.point_rows import point_columns
from sessions.frames.steady import with_steady
from tests.made_model import made_model

TOKENS_EACH = 16
MODEL = made_model(weights_digest="aa", layers=2, kv_heads=2, head_dim=64, vocab_size=100, hidden_size=128)
EACH = 4  # requests of a slot in a block
SECOND = 1_000_000_000
C1, C2, C4 = (Point(name=f"c{number}", concurrency=number, requests=EACH * number) for number in (1, 2, 4))
Totals = Mapping[
    str, Mapping[str, Sequence[float | None]]
]  # method -> point -> tokens/s of its blocks; None: out of memory


def make_load_session(
    sessions: Path, totals: Totals, points: Sequence[Point] = (C1, C2, C4), **settings: Any
) -> SessionFolder:
    """A finished session; the first method is the reference. In a closed loop each of the slots has EACH requests one
    after another, begun one token apart; in an open loop they come evenly, and take as long as four at once would."""
    first = next(iter(totals))
    methods = [
        PlannedMethod(name=name, engine="e", environment="t", reference=None if name == first else first)
        for name in totals
    ]
    blocks = max(len(values) for by_point in totals.values() for values in by_point.values())
    plan = Plan(
        methods=methods,
        points=list(points),
        requests=blocks,
        blocks=blocks,
        sampling=Sampling(max_new_tokens=TOKENS_EACH),
        **settings,
    )
    folder, _ = create(sessions, plan)
    prepared = Prepared(
        t=0,
        model=MODEL,
        prompts=[[1, 2, 3]],
        prompt_text=None,
        prompt_template=False,
        stop_token_ids=[],
        interpreters={},
        unavailable={},
        bandwidth=MemoryBandwidth(read_bytes_s=1e12),
    )
    runs: list[FrameRow] = []
    asked: list[FrameRow] = []
    tokens: list[tuple[object, ...]] = []
    clock, number = 10**12, 0
    for block in range(blocks):
        for method in methods:
            begun = clock
            for place, point in enumerate(points):
                key = {"session": folder.id, "method": method.name, "block": block, "attempt": 0}
                total = totals[method.name][point.name][block]
                shape = point_columns(plan, place, prepared)
                row = {"stretch": 0, "status": "ok", "reference": method.reference, "started_ns": begun}
                row |= {"in_effect": True, "evidence": "{}", "dtype": plan.dtype, "weights_bytes": 10**9}
                if total is None:
                    row |= {"status": "oom", "error": "CUDA out of memory"}
                else:
                    for start, step in _starts(point, total):
                        asked.append(key | shape | {"request": number, "start_ns": clock + start})
                        tokens += [
                            (*key.values(), number, 0, index, clock + start + step * (index + 1), index)
                            for index in range(TOKENS_EACH)
                        ]
                        number += 1
                    clock += 100 * SECOND
                runs.append(dict.fromkeys(RUNS) | key | row | shape | {"ended_ns": clock})
    said = pl.DataFrame(tokens, schema=TOKENS, orient="row")
    requests = (
        pl.DataFrame(asked, schema={name: kind for name, kind in REQUESTS.items() if name in asked[0]})
        .with_columns(
            pl.lit(False).alias("warmup"),
            pl.lit("length").alias("finish_reason"),
            pl.lit("{}").alias("missing"),
            pl.col("start_ns").alias("scheduled_ns"),
            pl.lit(3).alias("prompt_tokens"),
            pl.lit(0).alias("prompt_index"),
            pl.lit(0.0).alias("queue_s"),
            pl.lit(0).alias("stretch"),
        )
        .join(per_request(said), on=["method", "block", "attempt", "request"], maintain_order="left")
        .with_columns(rates("scheduled_ns"))
    )
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in REQUESTS.items() if name not in requests.columns]
    frames = {
        "runs": pl.DataFrame(runs, schema=RUNS),
        "requests": requests.with_columns(absent).pipe(with_steady).select(list(REQUESTS)).cast(pl.Schema(REQUESTS)),
        "tokens": said,
        "telemetry": pl.DataFrame(schema=TELEMETRY),
        "fidelity": pl.DataFrame(schema=FIDELITY),
    }
    keys = {(row["method"], row["block"], row["attempt"]): prepared for row in runs}
    for name, frame in complete(frames, Context(plan, keys, None)).items():
        frame.write_parquet(folder.frame(name))
    folder.write(msgspec.structs.replace(folder.read(), status="finished", machine=Machine()))
    return folder


def _starts(point: Point, total: float) -> list[tuple[int, int]]:
    """When each request begins, and the time from one token to the next, in ns; a slot's requests are 1 µs apart."""
    slots = point.in_flight or 4
    step = round(slots / total * SECOND)
    if point.rate is not None:
        return [(round(number / point.rate * SECOND), step) for number in range(EACH * slots)]
    each = step * TOKENS_EACH + 1000
    return sorted((slot * step // slots + request * each, step) for slot in range(slots) for request in range(EACH))
