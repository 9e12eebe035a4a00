"""What an engine made of a model's config.json: the one list of what every method of a session must have read alike.

Read from the config object that the engine resolved (transformers of any version, vLLM's `hf_config`), under old names
as well as new, and where the model can be looked at, from the model: a config object also has attributes that the
model's code never reads. A fact that the config does not have is None. Sessions compare those that two methods know
(sessions/frames/flags.py).
"""

from __future__ import annotations

NO = "none"  # of a kind of attention or scaling that a config can have and this one has not


def resolved_config(config: object, model: object = None) -> dict:
    """{fact: value} of a config object and, where it is in this process, the model made by it. Raises nothing: a config
    that this cannot read does not keep its model from being measured.
    """
    facts: dict = {}
    try:
        facts.update(config_facts(config))
        facts.update({} if model is None else model_facts(model))
    except Exception as error:
        facts["unread"] = "%s: %s" % (type(error).__name__, str(error)[:200])
    return facts


def config_facts(config: object) -> dict:
    """{fact: value} of a config object; of a composed one, of its language model."""
    text = text_config_of(config)
    heads = number(text, "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads")
    hidden = number(text, "hidden_size", "n_embd", "d_model")
    head_dim = number(text, "head_dim") or (hidden // heads if hidden and heads else None)
    ropes = ropes_of(text)
    return {
        "layers": number(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "hidden_size": hidden,
        "heads": heads,
        "kv_heads": kv_heads_of(text, heads),
        "head_dim": head_dim,
        "vocab_size": number(text, "vocab_size"),
        "rope_theta": alike(float(rope["rope_theta"]) for rope in ropes if rope.get("rope_theta")),
        "rotary_dim": number(text, "rotary_dim")
        or alike(int(head_dim * factor_of(rope)) for rope in ropes if head_dim and rope.get("rope_theta")),
        "rope_scaling": alike(scaling_of(rope) for rope in ropes),
        "sliding_window": sliding_window_of(text),
        "norm_eps": first(text, "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_eps", "norm_epsilon"),
        "activation": first(text, "hidden_activation", "hidden_act", "activation_function"),
        "tie_word_embeddings": first(text, "tie_word_embeddings"),
    }


def model_facts(model: object) -> dict:
    """{fact: value} of what can be seen in a loaded model itself, where the config may say otherwise."""
    facts = {}
    given, told = model.get_input_embeddings(), model.get_output_embeddings()
    if given is not None and told is not None and hasattr(given, "weight") and hasattr(told, "weight"):
        facts["tie_word_embeddings"] = given.weight is told.weight
    frequencies = {}
    for name, buffer in model.named_buffers():
        last = name.rpartition(".")[2]
        if last.endswith("inv_freq") and "original" not in last and "visi" not in name and "visual" not in name:
            frequencies[name] = buffer
    turns = [turn for turn in map(turn_of, frequencies.values()) if turn is not None]
    if turns:
        facts["rotary_frequencies"] = alike(turns)
    return facts


def turn_of(frequencies: object) -> str | None:
    """A rotary embedding's "dimensions at base": what two neighbouring frequencies say, whatever scales them all."""
    values = frequencies.detach().float().flatten().tolist()
    if len(values) < 2 or not (values[0] > 0 and values[1] > 0) or str(frequencies.dtype) != "torch.float32":
        return None
    return "%d dimensions at base %.3g" % (2 * len(values), (values[0] / values[1]) ** len(values))


def text_config_of(config: object) -> object:
    """The config of the language model in a composed config, or the config itself."""
    inner = getattr(config, "get_text_config", None)
    if callable(inner):
        return inner(decoder=True)
    return getattr(config, "text_config", None) or config


def kv_heads_of(text: object, heads: int | None) -> int | None:
    """Heads that keep keys and values: one where `multi_query` says so, and all where nothing is said."""
    if value_of(text, "multi_query") and not value_of(text, "new_decoder_architecture"):
        return 1
    attention = value_of(text, "attn_config")  # MPT's
    inner = number(attention, "kv_n_heads") if attention is not None else None
    return inner or number(text, "num_key_value_heads", "num_kv_heads") or heads


def ropes_of(text: object) -> list:
    """The parameters of the rotary embeddings by version 5's names: one dict, or one for each type of layer."""
    new = value_of(text, "rope_parameters")
    if isinstance(new, dict) and new:
        nested = [each for each in new.values() if isinstance(each, dict)]
        return nested or [new]
    theta = first(text, "rope_theta", "rotary_emb_base", "global_rope_theta")
    if theta is None:
        return []
    factor = first(text, "partial_rotary_factor", "rotary_pct")
    scaling = value_of(text, "rope_scaling")
    own = {**(scaling if isinstance(scaling, dict) else {}), "rope_theta": theta}
    if factor is not None:
        own["partial_rotary_factor"] = factor
    local = first(text, "rope_local_base_freq", "local_rope_theta")
    return [own] if local is None else [own, {"rope_theta": local}]


def factor_of(rope: dict) -> float:
    factor = rope.get("partial_rotary_factor")
    return 1.0 if factor is None else float(factor)


def scaling_of(rope: dict) -> str:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    factor = rope.get("factor")
    if kind == "default":
        return NO
    return kind if factor is None else "%s by %g" % (kind, float(factor))


def sliding_window_of(text: object) -> object:
    window = number(text, "sliding_window")
    return window if window and value_of(text, "use_sliding_window") is not False else NO


def alike(values: object) -> object:
    """The one value that all have, the different ones in order, or None of none."""
    found = sorted(set(values))
    return None if not found else found[0] if len(found) == 1 else found


def value_of(config: object, name: str) -> object:
    """An attribute, or None: of a config whose layers differ in it, version 5 raises an error of its own."""
    try:
        return getattr(config, name, None)
    except Exception:
        return None


def first(config: object, *names: str) -> object:
    return next((value for value in (value_of(config, name) for name in names) if value is not None), None)


def number(config: object, *names: str) -> int | None:
    """The first that is a whole number above 0; what differs from layer to layer is none."""
    for name in names:
        value = value_of(config, name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
