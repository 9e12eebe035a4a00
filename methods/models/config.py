"""A model's config.json: the facts a plan needs, and a form that both old and new transformers read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from methods.base.bounded_read import ReadError, read_bytes
from methods.base.json_file import LARGEST, read_object
from methods.base.user_path import kind

SETTINGS = ("config.json", "generation_config.json")


class ConfigError(Exception):
    """The config cannot be used. The text is one sentence for the user."""


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    """Shape facts; None if the config does not say."""

    architecture: str | None
    context_length: int | None
    vocab_size: int | None
    layers: int | None
    kv_heads: int | None
    head_dim: int | None
    hidden_size: int | None
    eos_token_ids: tuple[int, ...]


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file of a model. Raises ConfigError."""
    try:
        return read_object(path)
    except ReadError as error:
        raise ConfigError(str(error)) from error


def settings_digest(folder: Path) -> str:
    """SHA-256 over what decides, besides weights and code, what a model computes: its configs. Raises ConfigError."""
    digest = hashlib.sha256()
    for name in SETTINGS:
        if os.path.exists(path := folder / name):
            try:
                content = read_bytes(path, LARGEST, str(path))
            except ReadError as error:
                raise ConfigError(str(error)) from error
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def facts(config: Mapping[str, object], generation: Mapping[str, object] | None = None) -> ConfigFacts:
    """The facts in config.json, under GPT-2's names as well as Llama's; EOS from generation_config.json."""
    inner = config.get("text_config")
    text: Mapping[str, object] = inner if isinstance(inner, dict) else config
    heads = _heads(text)
    hidden = _number(text, "hidden_size", "n_embd", "d_model")
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else config.get("model_type")
    eos = (
        _ids((generation or {}).get("eos_token_id"))
        or _ids(config.get("eos_token_id"))
        or _ids(text.get("eos_token_id"))
    )
    return ConfigFacts(
        architecture=named if isinstance(named, str) else None,
        context_length=_number(text, "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length"),
        vocab_size=_number(text, "vocab_size"),
        layers=_number(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        kv_heads=_kv_heads(text, heads),
        head_dim=_number(text, "head_dim") or (hidden // heads if hidden and heads else None),
        hidden_size=hidden,
        eos_token_ids=eos,
    )


def facts_in(folder: Path) -> ConfigFacts:
    """The facts of the model in `folder`. Raises ConfigError."""
    generation = folder / "generation_config.json"
    return facts(read_json(folder / "config.json"), read_json(generation) if kind(generation) != "absent" else None)


# Version 4's own names for what version 5 keeps in `rope_parameters`: by type of model, and for parameters that differ
# from one type of layer to another, those of its `rope_theta`.
OLD_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    "gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    "gpt_neox_japanese": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
}
OLD_NAMES_BY_LAYER: Final[Mapping[str, Mapping[str, str]]] = {
    "gemma3_text": {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"},
    "gemma3n_text": {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"},
    "modernbert-decoder": {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"},
    "olmo3": {"full_attention": "rope_theta"},
}


def for_old_and_new(config: Mapping[str, object]) -> dict[str, object]:
    """The same config with the keys of transformers 4 and 5 side by side.

    Version 5 writes `rope_parameters` and `dtype` alone; version 4 looks for `rope_theta`, `rope_scaling`,
    `partial_rotary_factor` (for some models by other names) and `torch_dtype`, and without them silently takes its
    defaults and generates different text.
    """
    both = dict(config)
    if isinstance(both.get("text_config"), dict):
        both["text_config"] = for_old_and_new(config["text_config"])  # type: ignore[arg-type]
    if "dtype" in both:
        both.setdefault("torch_dtype", both["dtype"])
    elif "torch_dtype" in both:
        both["dtype"] = both["torch_dtype"]
    kind = str(both.get("model_type"))
    rope = both.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        _add_old_rope(both, rope, OLD_NAMES.get(kind, {}))
    elif isinstance(rope, dict):
        _add_old_rope_by_layer(both, rope, OLD_NAMES_BY_LAYER.get(kind, {}))
    elif rope is None and "rope_theta" in both and kind not in OLD_NAMES_BY_LAYER:
        scaled = both.get("rope_scaling")
        kept = dict(scaled) if isinstance(scaled, dict) else {}
        scaling = kept.pop("type", None) or kept.get("rope_type") or "default"
        both["rope_parameters"] = {**kept, "rope_type": scaling, "rope_theta": both["rope_theta"]}
    return both


def _add_old_rope(both: dict[str, object], rope: Mapping[str, object], names: Mapping[str, str]) -> None:
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            both.setdefault(name, rope[name])
            both.setdefault(names.get(name, name), rope[name])
    _add_old_scaling(both, rope)


def _add_old_rope_by_layer(both: dict[str, object], rope: Mapping[str, object], names: Mapping[str, str]) -> None:
    for layer, name in names.items():
        own = rope.get(layer)
        if isinstance(own, dict) and "rope_theta" in own:
            both.setdefault(name, own["rope_theta"])
    full = rope.get("full_attention")
    if names and isinstance(full, dict):
        _add_old_scaling(both, full)


def _add_old_scaling(both: dict[str, object], rope: Mapping[str, object]) -> None:
    """Version 4's `rope_scaling`. Version 5 takes it instead of `rope_parameters`, so that nothing may be left out."""
    kind = rope.get("rope_type", "default")
    if kind == "default":
        return
    scaling = {name: value for name, value in rope.items() if name not in ("rope_theta", "partial_rotary_factor")}
    if kind in ("linear", "dynamic") and set(scaling) <= {"rope_type", "type", "factor"}:
        scaling = {"type": kind, "factor": rope.get("factor")}  # before 4.43 they were known by exactly these keys
    both.setdefault("rope_scaling", scaling)


def misread_by_old(config: Mapping[str, object]) -> bool:
    """Whether transformers 4 would miss something that only version 5's keys say."""
    new = ("rope_parameters", "dtype", "text_config")
    inner = config.get("text_config")
    return any(name not in config for name in for_old_and_new(config) if name not in new) or (
        isinstance(inner, dict) and misread_by_old(inner)
    )


def undivided(config: Mapping[str, object], degree: int) -> str:
    """Why a model's attention cannot be shared out among so many GPUs, as half a sentence; "" where nothing is known
    against it. Each takes whole heads, of keys and values as many as the others, or one that others have too.
    """
    inner = config.get("text_config")
    text: Mapping[str, object] = inner if isinstance(inner, dict) else config
    heads = _heads(text)
    if heads is not None and heads % degree:
        return f"its {heads} attention heads cannot be shared out evenly among {degree} GPUs"
    kept = _kv_heads(text, heads)
    if kept is not None and max(kept, degree) % min(kept, degree):
        return f"its {kept} heads of keys and values cannot be shared out evenly among {degree} GPUs"
    return ""


def too_few_layers(config: Mapping[str, object], degree: int) -> str:
    """Why a model's layers cannot be laid on so many GPUs, as half a sentence; "" where nothing is known against it."""
    layers = facts(config).layers
    return "" if layers is None or layers >= degree else f"it has {layers} layers, fewer than {degree} GPUs"


def _heads(text: Mapping[str, object]) -> int | None:
    return _number(text, "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")


def _kv_heads(text: Mapping[str, object], heads: int | None) -> int | None:
    """Heads that keep keys and values: one with `multi_query`, all where nothing is said."""
    if text.get("multi_query") is True and text.get("new_decoder_architecture") is not True:
        return 1
    attention = text.get("attn_config")  # MPT's
    inner = _number(attention, "kv_n_heads") if isinstance(attention, dict) else None
    return inner or _number(text, "num_key_value_heads", "num_kv_heads") or heads


def _number(config: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _ids(value: object) -> tuple[int, ...]:
    if isinstance(value, bool):
        return ()
    if isinstance(value, int):
        return (value,)
    return tuple(each for each in value if isinstance(each, int)) if isinstance(value, list) else ()
