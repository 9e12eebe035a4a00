"""What is filled into a server's command, from the job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from kasoku_config_facts import resolved_config
from kasoku_engine import longest as longest_of
from kasoku_engine import most_in_flight
from kasoku_vllm_serving import MOST_BATCHED_TOKENS

NAME = "kasoku"  # of the model, at a server that Kasoku starts
LENGTH_STEP = 128
# A server's own share of all memory is too much on a machine that does something else, and says nothing of the model.
SPARE_KV_TOKENS = 512
SMALLEST_KV_BYTES = 64 << 20
UNKNOWN_KV_BYTES = 1 << 30


def words_for(job: dict) -> dict:
    """{name: word}. {parallel} is how many requests may be in flight; {kv_bytes} of memory hold the keys and values of
    as many, with some to spare, {contexts} their tokens, and {batched} is how many tokens may be read in a step.
    """
    most, longest = most_in_flight(job), longest_of(job)
    length = -(-(longest + 1) // LENGTH_STEP) * LENGTH_STEP
    context = max(min(length, job.get("context_length") or length), longest)
    return {
        "python": sys.executable,
        "model_folder": str(job["model_folder"]),
        "converted_file": converted_file(job),
        "name": NAME,
        "context": str(context),
        "contexts": str(most * context),
        "parallel": str(most),
        "batched": str(max(context, min(most * context, MOST_BATCHED_TOKENS))),
        "kv_bytes": str(kv_bytes(job, most * context)),
        "threads": str(job.get("threads") or 1),
        "gpus": str(max(1, len(job.get("gpu_uuids") or ()))),
        "dtype": str(job["dtype"]),
        "seed": str(job.get("seed") or 0),
    }


def converted_file(job: dict) -> str:
    """The GGUF of the job's converted model; empty where it has none."""
    folder = job.get("converted_folder")
    found = sorted(Path(folder).glob("*.gguf")) if folder else []
    return str(found[0]) if found else ""


def kv_bytes(job: dict, tokens: int) -> int:
    """Bytes that the keys and values of so many tokens take, by the model's config.json."""
    try:
        config = json.loads((Path(job["model_folder"]) / "config.json").read_text(encoding="utf-8"))
        facts = resolved_config(SimpleNamespace(**(config.get("text_config") or config)))
        heads = facts["layers"] * facts["kv_heads"] * facts["head_dim"]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return UNKNOWN_KV_BYTES
    element = 4 if job["dtype"] == "float32" else 2
    return max(2 * heads * element * (tokens + SPARE_KV_TOKENS), SMALLEST_KV_BYTES)
