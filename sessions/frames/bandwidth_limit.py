"""How far a method is from the memory limit: each token of a single sequence needs all weights read once.

    bytes per token = weights + KV cache at the mean length of a sequence
    MBU (model bandwidth utilisation) = bytes per token × decode throughput ÷ measured bandwidth

An engine that can look at its model tells what a decoding step reads (`token_reads` in its evidence; see
methods/runner/kasoku_token_reads.py). For the others it follows from the config: a decoder's KV cache holds 2 × layers
× KV heads × head dimension values a position (keys and values), and the input embedding is a look-up of one row, read
in full only where the output layer shares it. Models for which that does not hold have a reason in place of a figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from methods.models.model import Model

ITEM_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
KEPT_BYTES: Final = {**ITEM_BYTES, "float8_e4m3fn": 1, "float8_e5m2": 1, "uint8": 1, "int8": 1}  # of a KV cache
SPARSE_KEYS: Final = (
    *("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts"),
    *("ffn_num_experts", "n_experts", "experts_per_token"),
)
TOWERS: Final = ("vision_config", "audio_config", "speech_config", "perception_config")
STATE_KEYS: Final = (
    *("state_size", "ssm_state_size", "mamba_d_state", "mamba_d_conv", "conv_kernel", "conv_L_cache", "lru_width"),
    *("linear_num_value_heads", "rescale_every"),
)
# Rows of a table of learned positions beyond the context's; of the table a token reads one.
LEARNED_POSITIONS: Final = {"gpt2": 0, "gpt_bigcode": 0, "gpt_neo": 0, "opt": 2, "biogpt": 2}
WITHOUT_CACHE: Final = ("openai-gpt",)
PLAIN_LAYERS: Final = ("full_attention", "attention")


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """What must be read from memory for one token; `total` is None if it cannot be determined, for `reason`."""

    total: float | None
    weights: float | None = None
    kv: float | None = None
    reason: str = ""

    def of_step(self, sequences: float | None) -> float | None:
        """Bytes for a token of each of so many sequences: the weights once, and the cache of each."""
        if self.weights is None or self.kv is None or sequences is None:
            return None
        return self.weights + sequences * self.kv


def bytes_per_token(
    model: Model,
    config: Mapping[str, object] | None,
    dtype: str,
    weights_bytes: int | None,
    length: float,
    resolved: Mapping[str, object] | None = None,
    evidence: Mapping[str, object] | None = None,
    gpus: int = 1,
) -> TokenBytes:
    """Bytes for one token at batch 1, with `length` positions in the KV cache.

    `config` is the model's config.json where it could be read, `weights_bytes` what the engine says it loaded,
    `resolved` the facts of the config as it read them, and `evidence` what it saw: `token_reads`, how many
    `quantised_layers` there are, and the `kv_dtypes`. Split over more `gpus` than it has heads of keys and values, a
    model keeps some of them on several, and each reads its own.
    """
    item = ITEM_BYTES.get(dtype)
    if item is None:
        return TokenBytes(None, reason=f"the weights' type {dtype or '(unknown)'} has no known size")
    config = dict(config or {})
    towers = [name for name in TOWERS if isinstance(config.get(name), dict)]
    inner = config.get("text_config")
    config |= inner if isinstance(inner, dict) else {}
    if reason := _not_modelled(config):
        return TokenBytes(None, reason=reason)
    shown = dict(evidence or {})
    if _number(shown.get("drafted_tokens")):
        return TokenBytes(None, reason="a step of the model checks several drafted tokens, and reads the weights once")
    seen = shown.get("token_reads")
    if isinstance(seen, Mapping) and seen:
        return _as_seen(seen, length)
    if config.get("quantization_config") or _number(shown.get("quantised_layers")):
        return TokenBytes(None, reason="its weights are quantised, and the engine does not tell what a token reads")
    if reason := _not_modelled_unseen(config, towers, length):
        return TokenBytes(None, reason=reason)
    kept = shown.get("kv_dtypes")
    kept_item = KEPT_BYTES.get(str(kept[0])) if isinstance(kept, list) and len(kept) == 1 else item
    if kept_item is None:
        return TokenBytes(None, reason=f"its KV cache holds {kept}, which has no known size")
    known = dict(resolved or {})
    layers, width = (_number(known.get(name)) or _number(getattr(model, name)) for name in ("layers", "head_dim"))
    heads = _number(known.get("kv_heads")) or _number(model.kv_heads)
    if not (layers and heads and width):
        return TokenBytes(None, reason="the model's config does not state its layers, KV heads and head dimension")
    weights = _number(weights_bytes)
    if weights is None:
        parameters = _number(model.parameters)
        if parameters is None:
            return TokenBytes(None, reason="neither the engine nor the model reports the size of the weights")
        weights = parameters * item
    if known.get("tie_word_embeddings", config.get("tie_word_embeddings")) is False:
        vocabulary, hidden = _number(model.vocab_size), _number(model.hidden_size)
        weights -= (vocabulary or 0) * (hidden or 0) * item
    beyond = LEARNED_POSITIONS.get(str(config.get("model_type")))
    if beyond is not None:
        weights -= ((_number(model.context_length) or 0) + beyond) * (_number(model.hidden_size) or 0) * item
    kv = 2 * layers * max(heads, gpus) * width * kept_item * length
    return TokenBytes(weights + kv, weights, kv)


def _not_modelled(config: Mapping[str, object]) -> str:
    """What stands against any figure, seen or not; "" if nothing does."""
    if any(_number(config.get(key)) for key in SPARSE_KEYS):
        return "a mixture of experts reads a different part of its weights for each token"
    if _number(config.get("num_kv_shared_layers")):
        return "its layers share their KV cache, which is not modelled"
    return ""


def _not_modelled_unseen(config: Mapping[str, object], towers: list[str], length: float) -> str:
    """What stands against a figure from the config alone; "" if nothing does."""
    if _number(config.get("kv_lora_rank")):
        return "its KV cache is compressed (multi-head latent attention), which is not modelled"
    window = _number(config.get("sliding_window"))
    if window and config.get("use_sliding_window", True) and length > window:
        return "its attention sees a sliding window only, which is not modelled"
    if towers:
        return (
            f"it has more than a language model ({', '.join(towers)}), and the engine does not tell what a token reads"
        )
    if config.get("model_type") in WITHOUT_CACHE:
        return "it has no KV cache: each step computes the whole text again"
    if any(config.get(key) for key in STATE_KEYS):
        return "its layers keep states of convolutions or recurrences, which are not modelled"
    kinds = config.get("layer_types")
    others = {kind for kind in kinds if isinstance(kind, str)} if isinstance(kinds, list) else set()
    others -= {*PLAIN_LAYERS, *(("sliding_attention",) if window else ())}
    if others:
        return f"its layers are not all of attention ({', '.join(sorted(others))}), which is not modelled"
    return ""


def _as_seen(seen: Mapping[str, object], length: float) -> TokenBytes:
    """From `token_reads`; what an engine wrote may be anything."""
    weights, layers = _number(seen.get("weights_bytes")), seen.get("cache")
    if weights is None or not isinstance(layers, list):
        return TokenBytes(None, reason="the engine does not tell what a decoding step reads")
    kv = 0.0
    for each in layers:
        if not (isinstance(each, list) and len(each) == 4):
            return TokenBytes(None, reason="the engine does not tell what its cache holds")
        count, growth, fixed = (_number(value) or 0 for value in each[:3])
        window = _number(each[3])
        kv += count * (growth * (min(length, window) if window else length) + fixed)
    return TokenBytes(weights + kv, weights, kv)


def mbu(bytes_each: float | None, decode_tok_s: float | None, bandwidth_bytes_s: float | None) -> float | None:
    """The share of the measured bandwidth that decoding a single sequence must use; None if an input is unknown."""
    if not bytes_each or not decode_tok_s or not bandwidth_bytes_s:
        return None
    return bytes_each * decode_tok_s / bandwidth_bytes_s


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
