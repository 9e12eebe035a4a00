"""What a model's tensors are made of: torchao's wrap packed weights and their scales, and say they are bfloat16."""

from __future__ import annotations


def parts_of(tensor: object) -> list:
    """The plain tensors in memory behind a tensor: itself, or those that it wraps."""
    if not hasattr(type(tensor), "__tensor_flatten__"):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in parts_of(getattr(tensor, name))]


def bytes_of(tensor: object) -> int:
    """The memory of a tensor's elements, whatever it says it is of."""
    return sum(part.numel() * part.element_size() for part in parts_of(tensor))


def dtype_name(tensor: object) -> str:
    return str(tensor.dtype).replace("torch.", "")


def own_tensors(module: object) -> list:
    """A module's parameters and what is saved with them, each once: packed weights and their scales are buffers, or
    attributes of the packed tensor, as with bitsandbytes.
    """
    found: dict = {}

    def take(tensor: object) -> None:
        if hasattr(tensor, "data_ptr") and tensor.numel():
            found.setdefault(id(tensor), tensor)

    passing = getattr(module, "_non_persistent_buffers_set", ())
    buffers = [tensor for name, tensor in module.named_buffers(recurse=False) if name not in passing]
    take(getattr(getattr(module, "state", None), "SCB", None))  # where LLM.int8() moves its scales when it first runs
    for tensor in (*module.parameters(recurse=False), *buffers):
        take(tensor)
        several = getattr(tensor, "bnb_quant_state", None) or {}  # vLLM's, one for each part of a merged layer
        for state in (tensor, getattr(tensor, "quant_state", None), *several.values()):
            for nested in (state, getattr(state, "state2", None)):
                for name in ("absmax", "code", "SCB"):
                    take(getattr(nested, name, None))
    return list(found.values())


def tensors_of(model: object) -> list:
    """What all modules of a model hold themselves, each once."""
    held = {id(tensor): tensor for module in model.modules() for tensor in own_tensors(module)}
    return list(held.values())
