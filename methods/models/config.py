"""A model's config.json: the facts a plan needs, and a form that both old and new transformers read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
        if os.path.lexists(path := folder / name):
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
    heads = _number(text, "num_attention_heads", "n_head")
    hidden = _number(text, "hidden_size", "n_embd")
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
        layers=_number(text, "num_hidden_layers", "n_layer"),
        kv_heads=_number(text, "num_key_value_heads") or heads,
        head_dim=_number(text, "head_dim") or (hidden // heads if hidden and heads else None),
        hidden_size=hidden,
        eos_token_ids=eos,
    )


def facts_in(folder: Path) -> ConfigFacts:
    """The facts of the model in `folder`. Raises ConfigError."""
    generation = folder / "generation_config.json"
    return facts(read_json(folder / "config.json"), read_json(generation) if kind(generation) != "absent" else None)


def for_old_and_new(config: Mapping[str, object]) -> dict[str, object]:
    """The same config with the keys of transformers 4 and 5 side by side.

    Version 5 writes `rope_parameters` and `dtype` alone; version 4 looks for `rope_theta`, `rope_scaling` and
    `torch_dtype`, and without them silently takes 10000 and generates different text.
    """
    both = dict(config)
    if isinstance(both.get("text_config"), dict):
        both["text_config"] = for_old_and_new(config["text_config"])  # type: ignore[arg-type]
    if "dtype" in both:
        both.setdefault("torch_dtype", both["dtype"])
    elif "torch_dtype" in both:
        both["dtype"] = both["torch_dtype"]
    rope = both.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        both.setdefault("rope_theta", rope["rope_theta"])
        kind = rope.get("rope_type", "default")
        if kind != "default":
            scaling = {name: value for name, value in rope.items() if name != "rope_theta"}
            if kind in ("linear", "dynamic"):  # before 4.43 these two alone were known, by exactly these keys
                scaling = {"type": kind, "factor": rope.get("factor")}
            both.setdefault("rope_scaling", scaling)
    elif rope is None and "rope_theta" in both:
        scaled = both.get("rope_scaling")
        kept = dict(scaled) if isinstance(scaled, dict) else {}
        kind = kept.pop("type", None) or kept.get("rope_type") or "default"
        both["rope_parameters"] = {**kept, "rope_type": kind, "rope_theta": both["rope_theta"]}
    return both


def misread_by_old(config: Mapping[str, object]) -> bool:
    """Whether transformers 4 would miss something that only version 5's keys say."""
    both = for_old_and_new(config)
    inner = config.get("text_config")
    return any(name in both and name not in config for name in ("rope_theta", "rope_scaling", "torch_dtype")) or (
        isinstance(inner, dict) and misread_by_old(inner)
    )


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
