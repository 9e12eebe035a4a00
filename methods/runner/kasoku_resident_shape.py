"""Which models the engine `resident` can run, told by their config before any weights are loaded.

A model is built without memory (torch's meta device) and looked at: its parameters must be those of a Llama-like or a
GPT-2-like decoder, every one of them known, and no setting of its config may change what is computed with them. What
these two cannot tell is told by a trial once it is loaded (kasoku_resident_trial).
"""

from __future__ import annotations

import re

import kasoku_config_facts as facts
from kasoku_engine import UnsupportedError

SILU, GELU, GELU_TANH, RELU = 1, 2, 3, 4
ACTIVATIONS = {
    "silu": SILU,
    "swish": SILU,
    "gelu": GELU,
    "gelu_new": GELU_TANH,
    "gelu_fast": GELU_TANH,
    "gelu_pytorch_tanh": GELU_TANH,
    "relu": RELU,
}
NO_NORM, RMS_NORM, LAYER_NORM = 0, 1, 2
# Settings that change what a decoder computes, and the values with which they do not.
NEUTRAL = {
    "alibi": (False,),
    "attn_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "embedding_multiplier": (1,),
    "final_logit_softcapping": (None,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "no_rope_layers": (None, []),
    "parallel_attn": (False,),
    "partial_rotary_factor": (None, 1),
    "residual_multiplier": (1,),
    "scale_depth": (None,),
    "scale_emb": (1,),
    "use_parallel_residual": (False,),
    "add_cross_attention": (False,),
}
CHANGING_ROPES = ("dynamic", "longrope")  # whose frequencies depend on how long a sequence has become


class Layout:
    """Where a kind of decoder keeps its parts: names below the model, or, of a layer's parts, below the layer."""

    def __init__(self, base: str, embeddings: str, positions: str, layers: str, last_norm: str, **parts: str) -> None:
        self.base, self.embeddings, self.positions = base, embeddings, positions
        self.layers, self.last_norm, self.parts = layers, last_norm, parts

    def knows(self, name: str) -> bool:
        """Whether a parameter of this name is one of its parts."""
        module, _, kind = name.rpartition(".")
        if kind not in ("weight", "bias"):
            return False
        if module in ("lm_head", self.embeddings, self.positions, self.last_norm):
            return kind == "weight" or module == self.last_norm
        found = re.match(re.escape(self.layers) + r"\.\d+\.(.+)", module)
        return found is not None and found.group(1) in self.parts.values()


LLAMA = Layout(
    "model",
    "model.embed_tokens",
    "",
    "model.layers",
    "model.norm",
    attention="self_attn",
    before_attention="input_layernorm",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.o_proj",
    query_norm="self_attn.q_norm",
    key_norm="self_attn.k_norm",
    before_mlp="post_attention_layernorm",
    gate="mlp.gate_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
)
GPT2 = Layout(
    "transformer",
    "transformer.wte",
    "transformer.wpe",
    "transformer.h",
    "transformer.ln_f",
    attention="attn",
    before_attention="ln_1",
    qkv="attn.c_attn",
    out="attn.c_proj",
    before_mlp="ln_2",
    up="mlp.c_fc",
    down="mlp.c_proj",
)


class Shape:
    """What a decoder of one of the layouts is like; attributes as they are set below."""

    def __init__(self, config: object, model: object, layout: Layout) -> None:
        first = Parts(model, layout, 0)
        attention = first.of("attention")
        self.layout = layout
        self.layers = len(model.get_submodule(layout.layers))
        self.vocabulary, self.width = model.get_submodule("lm_head").weight.shape
        self.heads = facts.number(config, "num_attention_heads", "n_head")
        self.kv_heads = facts.kv_heads_of(config, self.heads)
        self.head = attention.head_dim
        self.norm, self.epsilon = norm_of(first.of("before_attention"))
        self.head_norm = first.of("query_norm") is not None
        self.gated = first.of("gate") is not None
        self.inner = first.of("down").weight.shape[1 if self.gated else 0]
        self.activation = ACTIVATIONS[activation_of(config)]
        self.rope = not layout.positions
        self.positions = None if self.rope else model.get_submodule(layout.positions).weight.shape[0]

    def cache_bytes(self, length: int, element_size: int) -> int:
        """Of keys and values of all layers, for a sequence of `length` tokens."""
        return 2 * self.layers * self.kv_heads * length * self.head * element_size


class Parts:
    """The modules of layer number `number`, by a layout's names for them."""

    def __init__(self, model: object, layout: Layout, number: int) -> None:
        self._layer = model.get_submodule(layout.layers)[number]
        self._names = layout.parts

    def of(self, part: str) -> object:
        """The module; None where this layer has none of the kind."""
        module = self._layer
        for name in self._names.get(part, "").split("."):
            module = getattr(module, name, None) if name else None
        return module


def shape_of(transformers: object, folder: str, length: int) -> Shape:
    """The shape of the model in `folder`, for sequences of up to `length`. Raises UnsupportedError."""
    return shape_of_config(transformers, transformers.AutoConfig.from_pretrained(folder, local_files_only=True), length)


def shape_of_config(transformers: object, config: object, length: int) -> Shape:
    """The same of a model that has no folder."""
    import torch

    for name, neutral in NEUTRAL.items():
        value = facts.value_of(config, name)
        if hasattr(config, name) and value not in neutral and value is not None:
            raise UnsupportedError("resident does not run a model whose config has %s = %r." % (name, value))
    if activation_of(config) not in ACTIVATIONS:
        raise UnsupportedError("resident has no activation %r." % activation_of(config))
    try:
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
    except (KeyError, ValueError) as error:
        raise UnsupportedError("transformers has no language model of type %r." % config.model_type) from error
    layout = layout_of(model, config.model_type)
    check_length(config, length)
    check_layers(model, layout)
    return Shape(config, model, layout)


def layout_of(model: object, kind: str) -> Layout:
    """The layout all of whose parameters are known. Raises UnsupportedError."""
    names = [name for name, _ in model.named_parameters()]
    for layout in (LLAMA, GPT2):
        unknown = [name for name in names if not layout.knows(name)]
        if not unknown:
            return layout
        if any(name.startswith(layout.layers + ".") for name in names):
            raise UnsupportedError(
                "resident runs models like Llama and GPT-2; this one (%s) also has %s." % (kind, unknown[0])
            )
    raise UnsupportedError("resident runs models like Llama and GPT-2, which this one (%s) is not." % kind)


def check_layers(model: object, layout: Layout) -> None:
    """Raise UnsupportedError where layers lack a part, differ, or have a norm of a kind that is not known."""
    of_layers = {
        tuple(sorted((name, tuple(each.shape)) for name, each in layer.named_parameters()))
        for layer in model.get_submodule(layout.layers)
    }
    if len(of_layers) != 1:
        raise UnsupportedError("resident does not run a model whose layers differ in shape.")
    first = Parts(model, layout, 0)
    optional = ("query_norm", "key_norm")
    for part in layout.parts:
        if first.of(part) is None and part not in optional:
            raise UnsupportedError("resident does not run a model whose layers have no %s." % layout.parts[part])
    kind, _ = norm_of(first.of("before_attention"))
    for module in (first.of("before_mlp"), model.get_submodule(layout.last_norm)):
        if norm_of(module)[0] != kind:
            raise UnsupportedError("resident does not run a model that mixes kinds of norms.")
    norm = first.of("query_norm")
    if norm is not None and (norm.weight.shape != (first.of("attention").head_dim,) or norm_of(norm)[0] != RMS_NORM):
        raise UnsupportedError("resident norms queries and keys head by head, which this model does not.")


def check_length(config: object, length: int) -> None:
    """Raise UnsupportedError where a sequence of this length is not attended to as a shorter one is."""
    kinds = getattr(config, "layer_types", None) or []
    if any(kind not in ("full_attention", "sliding_attention") for kind in kinds):
        raise UnsupportedError("resident does not run a model whose layers are of types other than attention.")
    window = facts.sliding_window_of(config)
    slides = "sliding_attention" in kinds if kinds else True
    if window != facts.NO and slides and length > window:
        raise UnsupportedError(
            "resident has no sliding window, and the session's %d tokens are more than the model's %d."
            % (length, window)
        )
    for rope in facts.ropes_of(config):
        kind = rope.get("rope_type") or rope.get("type") or "default"
        least = rope.get("original_max_position_embeddings") or facts.number(config, "max_position_embeddings")
        if facts.factor_of(rope) != 1:
            raise UnsupportedError("resident does not run a model that turns a part of each head alone.")
        if kind in CHANGING_ROPES and length > least:
            raise UnsupportedError(
                "resident does not change a rotary embedding (%s) on the way, as %d tokens ask for; up to %d do not."
                % (kind, length, least)
            )
    if not facts.ropes_of(config) and length - 1 > (
        facts.number(config, "n_positions", "max_position_embeddings") or 0
    ):
        raise UnsupportedError(
            "The model has %s positions, and the session's longest request takes %d."
            % (facts.number(config, "n_positions", "max_position_embeddings"), length - 1)
        )


def norm_of(module: object) -> tuple:
    """(its kind, its epsilon) of a norm. Raises UnsupportedError."""
    import torch

    if isinstance(module, torch.nn.LayerNorm):
        return LAYER_NORM, module.eps
    if hasattr(module, "variance_epsilon"):
        return RMS_NORM, module.variance_epsilon
    raise UnsupportedError("resident does not know the norm %s." % type(module).__name__)


def activation_of(config: object) -> str:
    return str(facts.first(config, "hidden_activation", "hidden_act", "activation_function"))
