"""What one token of a single sequence must read: seen in a decoding step, op by op, and in what its cache holds.

Counted by what runs, so that a vision tower, experts that were not chosen and an embedding of which one row is looked
up do not count, and layers without keys and values need not be known.
"""

from __future__ import annotations

import contextlib

from kasoku_cache import held, layers_of
from kasoku_tensor_parts import bytes_of, parts_of, tensors_of

LOOK_UPS = ("aten.embedding", "aten.index", "aten.index_select", "aten.gather")
VIEWS = (
    *("aten.alias", "aten.as_strided", "aten.detach", "aten.expand", "aten.permute", "aten.select", "aten.slice"),
    *("aten.split", "aten.squeeze", "aten.t", "aten.transpose", "aten.unbind", "aten.unsqueeze", "aten.view"),
    *("aten._unsafe_view", "aten.lift_fresh", "aten.split_with_sizes", "aten.chunk", "aten.narrow"),
)
HANDED_ON = ("cache", "past_key_values", "cache_params", "state")  # the names under which a step hands on its cache
STATES = ("recurrent_states", "ssm_states")  # read whole for each token; the few columns of a convolution do not count
PROMPT_TOKENS = 8


def token_reads(model: object, generate: object) -> dict:
    """`generate()` makes a prompt of PROMPT_TOKENS or fewer and two tokens with the uncompiled `model`.

    Returns `weights_bytes`, read by the second token, and `cache`: for layers of a kind, their number, bytes for each
    position, bytes whatever the length, and the most positions that are read (None: all).
    """
    reads = WeightReads(model)
    steps: list = []

    def before(*_: object) -> None:
        reads.begin()

    def after(_module: object, _arguments: object, output: object) -> None:
        cache = next((each for each in (getattr(output, name, None) for name in HANDED_ON) if each is not None), None)
        steps.append([sizes_of(layer) for layer in layers_of(cache)] if cache is not None else [])

    hooks = [model.register_forward_pre_hook(before), model.register_forward_hook(after)]
    try:
        with reads.watching():
            generate()
    finally:
        for hook in hooks:
            hook.remove()
    if len(steps) < 2:
        raise RuntimeError("The model was called %d times for two tokens." % len(steps))
    kinds: dict = {}
    for (before_bytes, _, _), (after_bytes, fixed, window) in zip(steps[-2], steps[-1]):
        kind = (max(0, after_bytes - before_bytes), fixed, window)
        kinds[kind] = kinds.get(kind, 0) + 1
    cache = [[count, *kind] for kind, count in kinds.items() if kind[:2] != (0, 0)]
    return {"weights_bytes": reads.total(), "cache": cache}


def sizes_of(layer: object) -> tuple:
    """(bytes of what may grow, bytes of recurrent states, the most positions held) of a layer of a cache."""
    if isinstance(layer, list):  # RWKV's states
        return 0, sum(map(bytes_of, tensors_in(layer))), None
    if not hasattr(layer, "__dict__"):  # keys and values as they were before the cache had classes
        return sum(map(bytes_of, tensors_in(layer))), 0, None
    states = {id(each) for name in STATES for each in tensors_in(getattr(layer, name, None))}
    growing = [each for each in held(layer) if id(each) not in states]
    fixed = [each for each in held(layer) if id(each) in states]
    window = getattr(layer, "sliding_window", None)
    return sum(map(bytes_of, growing)), sum(map(bytes_of, fixed)), window if isinstance(window, int) else None


def tensors_in(node: object) -> list:
    """The tensors in nested lists, tuples and dicts, those that wrap others as what they wrap."""
    if hasattr(node, "data_ptr"):
        return parts_of(node)
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [tensor for each in inner for tensor in tensors_in(each)]


class WeightReads:
    """Which parts of a model's weights the ops since `begin` have read."""

    def __init__(self, model: object) -> None:
        self._size = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in weights_of(model)
        }
        self._read: dict = {}

    def begin(self) -> None:
        self._read = {}

    def total(self) -> int:
        """Bytes, each part once."""
        return sum(min(sum(parts.values()), self._size[storage]) for storage, parts in self._read.items())

    def watching(self) -> contextlib.AbstractContextManager:
        """A context in which the ops of this thread are seen."""
        from torch.utils._python_dispatch import TorchDispatchMode

        note = self._note

        class Ops(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, arguments=(), named=None):
                note(str(function).rpartition(".")[0], arguments)
                return function(*arguments, **(named or {}))

        return Ops()

    def _note(self, op: str, arguments: object) -> None:
        if op in VIEWS:
            return
        tensors = tensors_in(arguments)
        for tensor in tensors[1:] if op in LOOK_UPS else tensors:
            storage = tensor.untyped_storage().data_ptr()
            if storage in self._size:
                part = (tensor.storage_offset(), tensor.numel())
                self._read.setdefault(storage, {})[part] = bytes_of(tensor)


def weights_of(model: object) -> list:
    """Parameters and the buffers that are saved with them, as those of quantised layers are; each once."""
    found: dict = {}
    for tensor in tensors_in(tensors_of(model)):
        if tensor.numel():
            found[tensor.data_ptr(), tensor.shape] = tensor
    return list(found.values())
