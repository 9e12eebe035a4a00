"""What became of a model's linear layers: which hold quantised weights, as what, and what they multiply them with.

A layer counts as quantised by what its tensors hold in memory, whatever was asked for: one left as it was, or unpacked
at load, is plain. The output layer is left out, which no library quantises by itself.
"""

from __future__ import annotations

import re

from kasoku_tensor_parts import bytes_of, dtype_name, own_tensors, parts_of
from kasoku_token_reads import tensors_in
from kasoku_torch_facts import PACKED

PLAIN_CLASSES = ("Parameter", "Tensor")
# cuBLAS's kernels on Hopper are called nvjet; Triton's and CUTLASS's have what they multiply in their names.
MULTIPLIES = re.compile(
    r"gemm|gemv|nvjet|cutlass|tinygemm|dequant|quantize_affine|(?:[:._]|\b)\w*(?:mm|matmul)(?:_\w+)?$"
)
OPERANDS = re.compile(r"(?:^|[._])(?:\w*mm|linear|\w*matmul\w*|gemv\w*|gemm\w*|f8f8bf16\w*)$")


def weights_held(model: object) -> dict:
    """quantised_layers, plain_layers, quantised_as (names), and `weights_held`: for each way in which layers hold their
    weights, their number, the bytes with scales and all, and the bits for a weight where their shapes tell how many.
    """
    held: dict = {}
    for module in linear_layers(model):
        entry = held.setdefault(held_as(module), {"layers": 0, "bytes": 0, "weights": 0, "plain": not packed(module)})
        entry["layers"] += 1
        entry["bytes"] += sum(bytes_of(tensor) for tensor in own_tensors(module))
        entry["weights"] += count_of(module)
    for entry in held.values():
        count = entry.pop("weights")
        entry["bits_per_weight"] = round(8 * entry["bytes"] / count, 3) if count else None
    return {
        "quantised_layers": sum(entry["layers"] for entry in held.values() if not entry["plain"]),
        "plain_layers": sum(entry["layers"] for entry in held.values() if entry["plain"]),
        "quantised_as": sorted(name for name, entry in held.items() if not entry["plain"]),
        "weights_held": dict(sorted(held.items())),
    }


def linear_layers(model: object) -> list:
    """The modules that multiply by a matrix of weights, experts among them, but for the output layer."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return [module for module in model.modules() if module is not output and is_linear(module)]


def is_linear(module: object) -> bool:
    name = type(module).__name__
    if "linear" in name.lower() or name == "Conv1D":  # GPT-2's linear layers are called so
        return bool(own_tensors(module))
    parameters = list(module.parameters(recurse=False))
    return not name.startswith("Conv") and any(parameter.dim() >= 3 for parameter in parameters)


def packed(module: object) -> bool:
    return any(dtype_name(part).startswith(PACKED) for tensor in weights_of(module) for part in parts_of(tensor))


def packed_in(types: list) -> list:
    return [name for name in types if name.startswith(PACKED)]


def weights_of(module: object) -> list:
    """A layer's weights proper: what is the largest of its tensors, whatever it is called."""
    tensors = own_tensors(module)
    most = max((bytes_of(tensor) for tensor in tensors), default=0)
    return [tensor for tensor in tensors if bytes_of(tensor) == most]


def held_as(module: object) -> str:
    """`Int8Tensor (int8, bfloat16)`: the class of the tensor, or of the layer around a plain one, and its types."""
    weight = weights_of(module)[0]
    name = type(weight).__name__
    types = sorted({dtype_name(part) for part in parts_of(weight)})
    return "%s (%s)" % (type(module).__name__ if name in PLAIN_CLASSES else name, ", ".join(types))


def count_of(module: object) -> int:
    """How many weights a layer has, by the sizes it declares; 0 where it declares none."""
    sizes = [getattr(module, name, None) for name in ("in_features", "out_features")]
    if not all(isinstance(size, int) for size in sizes):
        return 0
    bias = getattr(module, "bias", None)
    return sizes[0] * sizes[1] + (bias.numel() if bias is not None else 0)


def matmul_ops(calls: dict) -> list:
    """The ops and kernels of a profiled step that multiply matrices, or unpack them beforehand."""
    return sorted(name for name in calls if MULTIPLIES.search(name))


def activations(model: object, generate: object) -> list:
    """The types of what quantised layers multiply their weights with, seen op by op as `generate()` runs uncompiled."""
    from torch.utils._python_dispatch import TorchDispatchMode

    layers = [module for module in linear_layers(model) if packed(module)]
    weights = {part.data_ptr() for module in layers for part in tensors_in(own_tensors(module))}
    inside = [0]
    seen: set = set()

    class Operands(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            if inside[0] and OPERANDS.search(str(function).rpartition(".")[0]):
                others = [dtype_name(each) for each in tensors_in(arguments) if each.data_ptr() not in weights]
                seen.update(others[:1] if not packed_in(others) else packed_in(others)[:1])
            return function(*arguments, **(named or {}))

    def enter(*_: object) -> None:
        inside[0] += 1

    def leave(*_: object) -> None:
        inside[0] -= 1

    hooks = []
    for module in layers:
        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with Operands():
            generate()
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(seen)
