"""How far a method is from the memory limit: each token of a single sequence needs all weights read once.

    bytes per token = weights + KV cache at the mean length of a sequence
    MBU (model bandwidth utilisation) = bytes per token × decode throughput ÷ measured bandwidth

A decoder's KV cache holds 2 × layers × KV heads × head dimension values a position (keys and values). The input
embedding is a look-up of one row; it is read in full only where the output layer shares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from methods.models.model import Model

ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
SPARSE_KEYS: Final = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """What must be read from memory for one token; `total` is None if it cannot be determined, for `reason`."""

    total: float | None
    weights: float | None = None
    kv: float | None = None
    reason: str = ""


def bytes_per_token(
    model: Model, config: Mapping[str, object] | None, dtype: str, weights_bytes: int | None, length: float
) -> TokenBytes:
    """Bytes for one token at batch 1, with `length` positions in the KV cache.

    `config` is the model's config.json where it could be read, `weights_bytes` what the engine says it loaded.
    """
    item = ITEM_BYTES.get(dtype)
    if item is None:
        return TokenBytes(None, reason=f"the weights' type {dtype or '(unknown)'} has no known size")
    config = dict(config or {})
    inner = config.get("text_config")
    config |= inner if isinstance(inner, dict) else {}
    if any(_number(config.get(key)) for key in SPARSE_KEYS):
        return TokenBytes(None, reason="a mixture of experts reads a different part of its weights for each token")
    if _number(config.get("kv_lora_rank")):
        return TokenBytes(
            None, reason="its KV cache is compressed (multi-head latent attention), which is not modelled"
        )
    window = _number(config.get("sliding_window"))
    if window and config.get("use_sliding_window", True) and length > window:
        return TokenBytes(None, reason="its attention sees a sliding window only, which is not modelled")
    layers, heads, width = map(_number, (model.layers, model.kv_heads, model.head_dim))
    if not (layers and heads and width):
        return TokenBytes(None, reason="the model's config does not state its layers, KV heads and head dimension")
    weights = _number(weights_bytes)
    if weights is None:
        parameters = _number(model.parameters)
        if parameters is None:
            return TokenBytes(None, reason="neither the engine nor the model reports the size of the weights")
        weights = parameters * item
    if config.get("tie_word_embeddings") is False:
        vocabulary, hidden = _number(model.vocab_size), _number(model.hidden_size)
        weights -= (vocabulary or 0) * (hidden or 0) * item
    kv = 2 * layers * heads * width * item * length
    return TokenBytes(weights + kv, weights, kv)


def mbu(bytes_each: float | None, decode_tok_s: float | None, bandwidth_bytes_s: float | None) -> float | None:
    """The share of the measured bandwidth that decoding a single sequence must use; None if an input is unknown."""
    if not bytes_each or not decode_tok_s or not bandwidth_bytes_s:
        return None
    return bytes_each * decode_tok_s / bandwidth_bytes_s


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
