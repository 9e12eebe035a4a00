"""How large vLLM's KV cache has to be, and how many weights a folder has."""

from __future__ import annotations

import json
import math
from pathlib import Path

# vLLM counts its KV cache in blocks of up to 128 tokens, of which it keeps one.
SPARE_KV_TOKENS = 512
SMALLEST_KV_BYTES = 64 << 20


def kv_bytes_for(config: object, tokens: int) -> int:
    """Bytes that the keys and values of one request of `tokens` tokens take in one worker, with blocks to spare."""
    model, parallel = config.model_config, config.parallel_config
    element = 2 if config.cache_config.cache_dtype == "auto" else 1
    if config.cache_config.cache_dtype == "auto" and "float32" in str(model.dtype):
        element = 4
    per_token = 2 * model.get_num_layers(parallel) * model.get_num_kv_heads(parallel) * model.get_head_size() * element
    speculation = getattr(config, "speculative_config", None)
    if getattr(speculation, "method", None) == "draft_model":  # its layers keep theirs in the same cache
        draft = speculation.draft_model_config
        per_token += (
            2 * draft.get_num_layers(parallel) * draft.get_num_kv_heads(parallel) * draft.get_head_size() * element
        )
    return max(per_token * (tokens + SPARE_KV_TOKENS), SMALLEST_KV_BYTES)


def weights_in(folder: Path) -> int:
    """The number of weights in a folder's safetensors files, from their headers."""
    total = 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__":
                total += math.prod(entry["shape"])
    return total
