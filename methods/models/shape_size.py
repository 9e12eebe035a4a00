"""How many weights a shape of shapes.toml comes to, before any are drawn."""

from __future__ import annotations

from collections.abc import Mapping

from methods.models.config import facts


def parameters_of(config: Mapping[str, object]) -> int | None:
    """The weights of a GPT-2 or a Llama of this config.json, tied ones once; None for another architecture, or where
    the config does not say."""
    known = facts(config)
    width, layers, words = known.hidden_size, known.layers, known.vocab_size
    if width is None or layers is None or words is None:
        return None
    match config.get("model_type"):
        case "gpt2":  # attention 4 d² + 4 d, perceptron 8 d² + 5 d, two norms of 2 d; positions; a last norm
            return (words + (known.context_length or 0)) * width + layers * (12 * width**2 + 13 * width) + 2 * width
        case "llama":
            inner, heads = config.get("intermediate_size"), config.get("num_attention_heads")
            if not isinstance(inner, int) or not isinstance(heads, int) or known.head_dim is None:
                return None
            attention = 2 * width * known.head_dim * (heads + (known.kv_heads or heads))
            tables = 1 if config.get("tie_word_embeddings") else 2
            return tables * words * width + layers * (attention + 3 * width * inner + 2 * width) + width
    return None
