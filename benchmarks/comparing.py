"""How long comparing takes: 50 sessions of 6 methods with 500 requests each, and two of them.

    python benchmarks/comparing.py [SESSIONS] [FOLDER]

The sessions are made once in FOLDER (a temporary one by default) and have whole frames: the requests' tokens are drawn,
everything else is derived from them as at the end of a measurement. The times are of fresh processes, after importing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from sessions.disk.frame_schema import REQUESTS, RUNS, TELEMETRY, TOKENS
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import SessionFile, create
from sessions.frames.derived import Context, complete
from sessions.frames.metrics import per_request, rates

METHODS = ("baseline", "library-default", "flash-attention-2", "torch-compile", "torch-compile-wrapper", "vllm")
REQUESTS_EACH, BLOCKS, OUTPUT_TOKENS = 500, 5, 32
TIMED = """
import sys, time
from pathlib import Path
from sessions.verdict.comparison import compare
from sessions.disk.store import Store
store = Store(Path(sys.argv[1]))
picks = [(session, None) for session in store.ids()[:int(sys.argv[2])]]
began = time.perf_counter()
comparison = compare(store, picks)
first = time.perf_counter() - began
began = time.perf_counter()
compare(store, picks)
print(len(comparison.rows), sum(row.requests for row in comparison.rows), first, time.perf_counter() - began)
assert not comparison.problems and all(row.itl_s_p99 for row in comparison.rows)
"""


def make_session(sessions: Path, seed: int) -> None:
    """A finished session whose token times are drawn."""
    plan = Plan(
        methods=[
            PlannedMethod(
                name=name, engine="transformers", environment="torch", reference=None if place == 0 else METHODS[0]
            )
            for place, name in enumerate(METHODS)
        ],
        requests=REQUESTS_EACH,
        blocks=BLOCKS,
        warmup=0,
        sampling=Sampling(max_new_tokens=OUTPUT_TOKENS),
    )
    folder, _ = create(sessions, plan)
    frames = make_frames(folder.id, plan, np.random.default_rng(seed))
    for name, frame in complete(frames, Context(plan, {}, None)).items():
        frame.write_parquet(folder.frame(name))
    folder.write(SessionFile(id=folder.id, status="finished", plan=plan))


def make_frames(session: str, plan: Plan, random: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Runs, requests and tokens as a journal would have given them, and no telemetry."""
    runs, requests, tokens = [], [], []
    clock = 10**12
    for block in range(BLOCKS):
        for place, method in enumerate(METHODS):
            size = REQUESTS_EACH // BLOCKS
            gap = 2e6 / (1 + 0.2 * place) * random.normal(1, 0.01)
            gaps = random.gamma(50, gap / 50, (size, OUTPUT_TOKENS)).astype(np.int64)
            times = clock + np.cumsum(gaps.ravel()).reshape(gaps.shape)
            numbers = block * size + np.arange(size)
            key = {"session": session, "method": method, "block": block, "attempt": 0}
            tokens.append(
                pl.DataFrame(
                    {
                        "request": np.repeat(numbers, OUTPUT_TOKENS),
                        "sequence": 0,
                        "index": np.tile(np.arange(OUTPUT_TOKENS), size),
                        "t_ns": times.ravel(),
                        "token_id": random.integers(0, 50_000, times.size),
                    }
                ).with_columns(pl.lit(value).alias(name) for name, value in key.items())
            )
            requests.append(
                pl.DataFrame({"request": numbers, "start_ns": times[:, 0] - gaps[:, 0]}).with_columns(
                    pl.lit(value).alias(name) for name, value in key.items()
                )
            )
            end = int(times[-1, -1])
            row = key | {"status": "ok", "reference": plan.methods[place].reference, "started_ns": clock, "stretch": 0}
            runs.append(dict.fromkeys(RUNS) | row | {"ended_ns": end, "in_effect": True, "evidence": "{}"})
            clock = end + 10**9
    said = pl.concat(tokens).select(list(TOKENS)).cast(pl.Schema(TOKENS))
    known = {
        "warmup": False,
        "prompt_tokens": 48,
        "finish_reason": "length",
        "missing": "{}",
        "text": "a word " * 20,
        "stretch": 0,
    }
    asked = (
        pl.concat(requests)
        .with_columns(pl.lit(value).alias(name) for name, value in known.items())
        .join(per_request(said), on=["method", "block", "attempt", "request"], how="left", maintain_order="left")
        .with_columns(rates())
    )
    absent = [pl.lit(None, dtype=kind).alias(name) for name, kind in REQUESTS.items() if name not in asked.columns]
    return {
        "runs": pl.DataFrame(runs, schema=RUNS),
        "requests": asked.with_columns(absent).select(list(REQUESTS)).cast(pl.Schema(REQUESTS)),
        "tokens": said,
        "telemetry": pl.DataFrame(schema=TELEMETRY),
    }


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory(prefix="kasoku-comparing-") as temporary:
        sessions = Path(sys.argv[2] if len(sys.argv) > 2 else temporary) / "sessions"
        began = time.perf_counter()
        for seed in range(count - (len(list(sessions.iterdir())) if sessions.is_dir() else 0)):
            make_session(sessions, seed)
        size = sum(path.stat().st_size for path in sessions.rglob("*.parquet")) / 1e6
        print(f"{count} sessions, {size:.0f} MB of frames, made in {time.perf_counter() - began:.0f} s")
        for picked in (2, count):
            for _ in range(3):
                command = [sys.executable, "-c", TIMED, str(sessions), str(picked)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows, requests, first, again = done.stdout.split()
                print(
                    f"{picked} sessions, {rows} rows, {requests} requests:"
                    f" {float(first) * 1e3:.0f} ms the first time, {float(again) * 1e3:.0f} ms after"
                )


if __name__ == "__main__":
    main()
