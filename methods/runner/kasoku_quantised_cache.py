"""A KV cache in 8 bits: transformers' `fp8` cache, and the types that a cache holds its keys and values in."""

from __future__ import annotations

from kasoku_cache import cache_kind, held, layers_of
from kasoku_engine import UnsupportedError
from kasoku_tensor_parts import dtype_name

KINDS = ("fp8",)


def check(kind: str | None) -> None:
    """Raise UnsupportedError where this transformers has no such cache."""
    if kind is None:
        return
    if kind not in KINDS:
        raise UnsupportedError("The transformers engine has no quantised cache %r; it has %s." % (kind, KINDS[0]))
    import transformers
    from transformers import cache_utils

    if not hasattr(cache_utils, "Fp8QuantizedLayer"):
        raise UnsupportedError("transformers %s has no KV cache in float8; 5.24 has." % transformers.__version__)


def settings(kind: str | None) -> dict:
    """What a generation config needs for it; {} for the plain one."""
    return {} if kind is None else {"cache_implementation": "quantized", "cache_config": {"backend": kind}}


def kv_dtypes(cache: object) -> list:
    """The types of what a cache holds, such as ["float8_e4m3fn"]; scales, which are single numbers, aside."""
    if cache is None:
        return []
    if cache_kind(cache) == "paged":
        return [dtype_name(cache)]
    tensors = [tensor for layer in layers_of(cache) for tensor in held(layer)]
    return sorted({dtype_name(tensor) for tensor in tensors if tensor.dim() > 1})
