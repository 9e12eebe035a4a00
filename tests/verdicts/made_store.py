"""Sessions with whole frames whose blocks have the tokens/s that a test wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from probes.machine import Machine
from sessions.disk.frame_schema import FIDELITY, REQUESTS, RUNS, TELEMETRY, TOKENS
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.records import Prepared
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import SessionFolder, create
from sessions.frames.derived import Context, complete
from sessions.frames.metrics import RUN_KEY, per_request, rates
from tests.made_model import made_model

TOKENS_EACH = 16
UNKNOWN = Machine()
Rates = Mapping[str, Sequence[float]]  # method -> tokens/s of its blocks; the first method is the reference


def make_session(
    sessions: Path,
    blocks: Rates,
    *,
    plan: Mapping[str, Any] | None = None,
    run: Mapping[str, Mapping[str, Any]] | None = None,
    prompt: Sequence[int] = (1, 2, 3),
    weights: str | None = "aa",
    machine: Machine = UNKNOWN,
) -> SessionFolder:
    """A finished session of two requests a block; `plan` and `run` (by method) replace fields and columns."""
    first = next(iter(blocks))
    settings = {
        "methods": [
            PlannedMethod(name=name, engine="e", environment="t", reference=None if name == first else first)
            for name in blocks
        ],
        "requests": 2 * len(blocks[first]),
        "blocks": len(blocks[first]),
        "sampling": Sampling(max_new_tokens=TOKENS_EACH),
        **(plan or {}),
    }
    planned = Plan(**settings)
    folder, _ = create(sessions, planned)
    runs, starts, tokens = [], [], []
    clock = 10**12
    for block in range(len(blocks[first])):
        for place, (method, values) in enumerate(blocks.items()):
            if block >= len(values):
                continue
            key = {"session": folder.id, "method": method, "block": block, "attempt": 0}
            row = {
                "stretch": 0,
                "status": "ok",
                "reference": planned.methods[place].reference,
                "started_ns": clock,
                "in_effect": True,
                "evidence": "{}",
                "dtype": planned.dtype,
                **(run or {}).get(method, {}),
            }
            step = 1e9 / values[block]
            for request in (2 * block, 2 * block + 1):
                starts.append(key | {"request": request, "start_ns": clock})
                tokens += [
                    (*key.values(), request, 0, index, clock + round(step * (index + 1)), index)
                    for index in range(TOKENS_EACH)
                ]
                clock += round(step * TOKENS_EACH) + 1000
            runs.append(dict.fromkeys(RUNS) | key | row | {"ended_ns": clock})
    said = pl.DataFrame(tokens, schema=TOKENS, orient="row")
    asked = (
        pl.DataFrame(starts)
        .with_columns(
            pl.lit(value).alias(name)
            for name, value in {
                "warmup": False,
                "prompt_tokens": 3,
                "finish_reason": "length",
                "missing": "{}",
                "stretch": 0,
            }.items()
        )
        .join(per_request(said), on=["method", "block", "attempt", "request"], how="left", maintain_order="left")
        .with_columns(rates())
    )
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in REQUESTS.items() if name not in asked.columns]
    frames = {
        "runs": pl.DataFrame(runs, schema=RUNS),
        "requests": asked.with_columns(absent).select(list(REQUESTS)).cast(pl.Schema(REQUESTS)),
        "tokens": said,
        "telemetry": pl.DataFrame(schema=TELEMETRY),
        "fidelity": pl.DataFrame(schema=FIDELITY),
    }
    prepared = Prepared(
        t=0,
        model=made_model(weights_digest=weights or ""),
        prompts=[list(prompt)],
        prompt_text=None,
        prompt_template=False,
        stop_token_ids=[],
        interpreters={},
        unavailable={},
    )
    for name, frame in complete(
        frames, Context(planned, dict.fromkeys(frames["runs"].select(RUN_KEY).iter_rows(), prepared), None)
    ).items():
        frame.write_parquet(folder.frame(name))
    folder.write(msgspec.structs.replace(folder.read(), status="finished", machine=machine))
    return folder
