"""What vLLM's workers hold of quantised weights, with which kernels, and what a decoding step reads of them."""

from __future__ import annotations

from kasoku_tensor_parts import bytes_of, dtype_name, own_tensors, parts_of
from kasoku_torch_facts import PACKED

UNQUANTISED = "Unquantized"
PLAIN_ATTENTION = "Attention"  # the layer that keeps keys and values for each position, and no more


def layers_held(model: object) -> dict:
    """The facts of `kasoku_quantised_facts.weights_held`, by vLLM's method, scheme and kernel for each layer; and how
    many layers' weights are no longer with torch, as on a CPU, where their bytes are not known.
    """
    from vllm.model_executor.layers.linear import LinearBase

    held: dict = {}
    out_of_sight = 0
    for module in model.modules():
        method = getattr(module, "quant_method", None)
        if method is None or not (isinstance(module, LinearBase) or "MoE" in type(module).__name__):
            continue
        scheme = getattr(module, "scheme", None)
        named = [type(each).__name__ for each in (method, scheme, kernel_of(method, scheme)) if each is not None]
        plain = UNQUANTISED in named[0] or unpacked(module)
        entry = held.setdefault(" ".join(named), {"layers": 0, "bytes": 0, "plain": plain})
        entry["layers"] += 1
        out_of_sight += not matrices(module)
        entry["bytes"] += sum(bytes_of(tensor) for tensor in own_tensors(module))
    return {
        "quantised_layers": sum(entry["layers"] for entry in held.values() if not entry["plain"]),
        "plain_layers": sum(entry["layers"] for entry in held.values() if entry["plain"]),
        "quantised_as": sorted(name for name, entry in held.items() if not entry["plain"]),
        "weights_held": dict(sorted(held.items())),
        "layers_out_of_sight": out_of_sight,
    }


def kernel_of(method: object, scheme: object) -> object:
    """The object that multiplies, where vLLM chose one among several."""
    owners = [each for each in (scheme, method) if each is not None]
    return next((found for owner in owners for found in [getattr(owner, "kernel", None)] if found is not None), None)


def unpacked(module: object) -> bool:
    """Whether what can be seen of a layer's weights is plain numbers; what was moved out of torch cannot."""
    seen = matrices(module)
    most = max((bytes_of(part) for part in seen), default=0)
    return any(bytes_of(part) == most and not dtype_name(part).startswith(PACKED) for part in seen)


def matrices(module: object) -> list:
    """The tensors that may hold a layer's weights: no scales, one for each row."""
    parts = [part for tensor in own_tensors(module) for part in parts_of(tensor)]
    return [part for part in parts if part.dim() > 1 and min(part.shape) > 1]


def kv_dtypes(kv_caches: object) -> list:
    """The types of the paged KV cache's tensors, in nested lists."""
    if hasattr(kv_caches, "dtype"):
        return [dtype_name(kv_caches)]
    inner = kv_caches if isinstance(kv_caches, (list, tuple)) else ()
    return sorted({name for each in inner for name in kv_dtypes(each)})


def token_reads(model: object, vllm_config: object, kv_caches: object) -> dict | None:
    """What a token reads here, as `kasoku_token_reads` says it; None where layers are not all of plain attention."""
    attention = list(vllm_config.compilation_config.static_forward_context.values())
    types = kv_dtypes(kv_caches)
    if len(types) != 1 or any(type(layer).__name__ != PLAIN_ATTENTION for layer in attention):
        return None
    import torch

    item = getattr(torch, types[0]).itemsize
    kinds: dict = {}
    for layer in attention:
        window = getattr(layer, "sliding_window", None)
        kind = (2 * layer.num_kv_heads * layer.head_size * item, 0, window if isinstance(window, int) else None)
        kinds[kind] = kinds.get(kind, 0) + 1
    held = sizes(model.modules())
    looked_up = sizes(of_class(model, "VocabParallelEmbedding", "Embedding"))
    output = sizes(of_class(model, "ParallelLMHead"))
    tied = output.keys() <= looked_up.keys()  # one table serves both ends, where the output layer has none of its own
    weights = sum(size for address, size in held.items() if tied or address not in looked_up)
    return {"weights_bytes": weights, "cache": [[count, *kind] for kind, count in kinds.items()]}


def of_class(model: object, *names: str) -> list:
    return [module for module in model.modules() if type(module).__name__ in names]


def sizes(modules: object) -> dict:
    """{address: bytes} of the tensors that modules hold themselves."""
    return {tensor.data_ptr(): bytes_of(tensor) for module in modules for tensor in own_tensors(module)}


def reads_of_all(workers: list) -> dict | None:
    """What a token reads in all workers together; None where one cannot say, or its weights are out of sight."""
    reads = [worker["token_reads"] for worker in workers]
    if None in reads or any(worker["repacked"] for worker in workers):
        return None
    return {
        "weights_bytes": sum(each["weights_bytes"] for each in reads),
        "cache": [kind for each in reads for kind in each["cache"]],
    }
