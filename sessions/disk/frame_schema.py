"""The five frames of a session: their columns, types and order. Names and units are a contract (docs/definitions.md).

Times `_ns` are int64 nanoseconds of the host's monotonic clock, `_s` seconds, `_bytes` bytes, `_j` joules. What could
not be read is null, with its reason in `missing`, a JSON object from column to sentence. `attempt` counts the times a
block was begun: `resume` runs an unfinished block again, and what the first attempt measured stays. `stretch` counts
the conductors: each has a clock of its own, since the machine may have been restarted in between, so that times are
compared within a stretch alone. Those of a token are its request's. Under a load a block has a row in runs for each
point: what belongs to the whole process, such as `load_s`, `memory` and evidence, is the same in all of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal

import polars as pl
from polars.datatypes import DataTypeClass

Columns = dict[str, pl.DataType | DataTypeClass]
FrameRow = dict[str, Any]  # a row as polars gives it: its keys, and the types of its values, are those of a schema here

SCHEMA_KEY: Final = "kasoku_schema_version"  # in the metadata of each parquet file

KEY: Final = ("session", "method", "block", "attempt")
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
POINT_COLUMNS: Final[Columns] = {  # fields of Point: null where it has none
    "point": pl.String,
    "batch": pl.Int64,
    "concurrency": pl.Int64,
    "rate": pl.Float64,
    "burstiness": pl.Float64,
    "isl": pl.Int64,
    "osl": pl.Int64,
    "depth": pl.Int64,
}

RUNS: Final[Columns] = {
    "session": pl.String,
    "method": pl.String,
    "reference": pl.String,
    "block": pl.Int64,
    "attempt": pl.Int64,
    "position": pl.Int64,
    "engine": pl.String,
    "environment": pl.String,
    "model": pl.String,
    "device": pl.String,
    "dtype": pl.String,
    "threads": pl.Int64,
    "status": pl.String,
    "error": pl.String,
    "load_s": pl.Float64,
    "warmup_s": pl.Float64,
    "timed_s": pl.Float64,
    "weights_bytes": pl.Int64,
    "weights_digest": pl.String,
    "prompt_digest": pl.String,
    "itl_s_p50": pl.Float64,
    "itl_s_p99": pl.Float64,
    "method_itl_s_p50": pl.Float64,
    "method_itl_s_p99": pl.Float64,
    "bytes_per_token": pl.Float64,
    "bandwidth_bytes_s": pl.Float64,
    "dram_active_percent": pl.Float64,
    "first_difference": pl.Int64,
    "equal_tokens_share": pl.Float64,
    "difference_margin": pl.Float64,
    "difference": pl.String,
    "peak_allocated_bytes": pl.Int64,
    "peak_reserved_bytes": pl.Int64,
    "peak_vram_bytes": pl.Int64,
    "vram_source": pl.String,
    "kv_reserved_bytes": pl.Int64,
    "peak_rss_bytes": pl.Int64,
    "energy_j": pl.Float64,
    "timed_energy_j": pl.Float64,
    "power_integral_j": pl.Float64,
    "idle_w": pl.Float64,
    "in_effect": pl.Boolean,
    "in_effect_reason": pl.String,
    "evidence": pl.String,
    "resolved": pl.String,
    "versions": pl.String,
    "flags": pl.List(pl.String),
    "missing": pl.String,
    "log_tail": pl.List(pl.String),
    "left_behind": pl.Int64,
    "sockets": pl.List(pl.String),
    "started_ns": pl.Int64,
    "ended_ns": pl.Int64,
    "start_s": pl.Float64,
    "import_s": pl.Float64,
    "load_compile_s": pl.Float64,
    "warmup_compile_s": pl.Float64,
    "evidence_s": pl.Float64,
    "greedy_s": pl.Float64,
    "close_s": pl.Float64,
    "timed_share": pl.Float64,
    "stretch": pl.Int64,
    "profiled_block": pl.Int64,
    "fidelity_s": pl.Float64,
    **POINT_COLUMNS,
    "timed_requests": pl.Int64,
    "timed_tokens": pl.Int64,
    "wall_s": pl.Float64,
    "tok_s_total_whole": pl.Float64,
    "steady_from_ns": pl.Int64,
    "steady_to_ns": pl.Int64,
    "steady_s": pl.Float64,
    "steady_requests": pl.Int64,
    "steady_tokens": pl.Int64,
    "tok_s_total": pl.Float64,
    "rps": pl.Float64,
    "in_flight": pl.Float64,
    "decoding": pl.Float64,
    "most_decoding": pl.Int64,
    "tok_s_user": pl.Float64,
    **{f"{name}_{quantile}": pl.Float64 for name in ("ttft_s", "tpot_s", "queue_s") for quantile in QUANTILES},
    "itl_s_p90": pl.Float64,
    "method_itl_s_p90": pl.Float64,
    "steady_energy_j": pl.Float64,
    "bytes_per_step": pl.Float64,
    "equal_alone_share": pl.Float64,
}

# Derived from the tokens frame: first_token_ns, end_ns, output_tokens, ttft_s, e2e_s, decode_tok_s, e2e_tok_s,
# itl_s_p50, itl_s_p99, text, steady; and in the runs the itl_s columns, over a block's timed requests at its point, or,
# as method_itl_s_…, over those of all the method's blocks that count. queue_s is from when a request was due to when
# its work began; accepted_per_step is accepted_tokens ÷ decode_steps.
REQUESTS: Final[Columns] = {
    "session": pl.String,
    "method": pl.String,
    "block": pl.Int64,
    "attempt": pl.Int64,
    "request": pl.Int64,
    "warmup": pl.Boolean,
    "batch": pl.Int64,
    "sequence": pl.Int64,
    "prompt_index": pl.Int64,
    "prompt_tokens": pl.Int64,
    "cached_prompt_tokens": pl.Int64,
    "output_tokens": pl.Int64,
    "finish_reason": pl.String,
    "start_ns": pl.Int64,
    "first_token_ns": pl.Int64,
    "end_ns": pl.Int64,
    "returned_ns": pl.Int64,
    "ttft_s": pl.Float64,
    "e2e_s": pl.Float64,
    "decode_tok_s": pl.Float64,
    "e2e_tok_s": pl.Float64,
    "itl_s_p50": pl.Float64,
    "itl_s_p99": pl.Float64,
    "energy_j": pl.Float64,
    "text": pl.String,
    "flags": pl.List(pl.String),
    "missing": pl.String,
    "stretch": pl.Int64,
    **POINT_COLUMNS,
    "scheduled_ns": pl.Int64,
    "queue_s": pl.Float64,
    "steady": pl.Boolean,
    "decode_steps": pl.Int64,
    "drafted_tokens": pl.Int64,
    "accepted_tokens": pl.Int64,
    "accepted_per_step": pl.Float64,
    "tpot_s": pl.Float64,
    "steady_tokens": pl.Int64,
}

# `token_id` is null where it is unknown which token came. Of a response whose text came without ids, in fewer pieces
# than tokens, there are no rows: when each came is unknown.
TOKENS: Final[Columns] = {
    "session": pl.String,
    "method": pl.String,
    "block": pl.Int64,
    "attempt": pl.Int64,
    "request": pl.Int64,
    "sequence": pl.Int64,
    "index": pl.Int64,
    "t_ns": pl.Int64,
    "token_id": pl.Int64,
}

TELEMETRY: Final[Columns] = {
    "session": pl.String,
    "t_ns": pl.Int64,
    "source": pl.String,
    "metric": pl.String,
    "unit": pl.String,
    "value": pl.Float64,
    "call_us": pl.Float64,
    "status": pl.String,
    "stretch": pl.Int64,
}

# A row per scored window and path, nats summed over its `tokens`; or one with a null `window` where a path of a block
# has no scores, with the reason in `missing` under `nll`. Derived from the journal: sums and counts of nll_each and the
# reference's scores. `clear` are the tokens where the reference's likeliest id is ahead of the next by CLEAR_NATS.
FIDELITY: Final[Columns] = {
    "session": pl.String,
    "method": pl.String,
    "block": pl.Int64,
    "attempt": pl.Int64,
    "path": pl.String,
    "window": pl.Int64,
    "stratum": pl.String,
    "tokens": pl.Int64,
    "nll": pl.Float64,
    "nll_reference": pl.Float64,
    "top1_equal": pl.Int64,
    "top1_equal_clear": pl.Int64,
    "clear_tokens": pl.Int64,
    "kl": pl.Float64,
    "kl_bound": pl.Float64,
    "worst": pl.Float64,
    "non_finite": pl.Int64,
    "nll_each": pl.List(pl.Float32),
    "nll_reference_each": pl.List(pl.Float32),
    "missing": pl.String,
}
CLEAR_NATS: Final = 0.1

SCHEMAS: Final = {"runs": RUNS, "requests": REQUESTS, "tokens": TOKENS, "telemetry": TELEMETRY, "fidelity": FIDELITY}
YOUNGER: Final = ("fidelity",)  # frames that sessions of an older Kasoku lack: they are empty there


NEVER_NULL: Final = {
    "runs": ("method", "block", "attempt", "status"),
    "requests": ("method", "block", "attempt", "request", "warmup"),
    "tokens": ("method", "block", "attempt", "request", "index", "t_ns"),
    "telemetry": ("t_ns", "source", "metric"),
    "fidelity": ("method", "block", "attempt", "path"),
}


class FrameError(Exception):
    """The frame cannot be read; the text is half a sentence that says why."""


def read_frame(path: Path, name: str) -> pl.DataFrame:
    """A saved frame, `name` of SCHEMAS, with all its columns; those missing in an older Kasoku's are null.

    Raises FrameError, whatever the file holds: polars' decoder panics at some damaged ones, which is not an Exception.
    """
    if name in YOUNGER and not os.path.lexists(path):
        return pl.DataFrame(schema=SCHEMAS[name])
    frame = _collected(_scanned(path, name))
    if lacking := [column for column in NEVER_NULL[name] if frame[column].has_nulls()]:
        raise FrameError(f"it has rows without {', '.join(lacking)}")
    return frame


def scan_frame(path: Path, name: str) -> pl.LazyFrame:
    """The same frame unread, for one that may not fit in memory: it has been read through, so that it can be."""
    rows = _scanned(path, name)
    nulls = _collected(rows.select(pl.all().null_count()), engine="streaming")
    if lacking := [column for column in NEVER_NULL[name] if nulls[column].item()]:
        raise FrameError(f"it has rows without {', '.join(lacking)}")
    return rows


def _scanned(path: Path, name: str) -> pl.LazyFrame:
    return pl.scan_parquet(path, schema=SCHEMAS[name], missing_columns="insert", extra_columns="ignore", glob=False)


def _collected(rows: pl.LazyFrame, engine: Literal["auto", "streaming"] = "auto") -> pl.DataFrame:
    try:
        return rows.collect(engine=engine)
    except (OSError, ValueError, TypeError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise FrameError(str(error).splitlines()[0][:160] if str(error) else type(error).__name__) from None


def schema_version(path: Path) -> int:
    """The schema that a frame's file says it was written by; 0 where it does not say, or cannot be read at all."""
    try:
        return int(pl.read_parquet_metadata(path).get(SCHEMA_KEY, "0"))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        return 0
