"""ONNX graphs as onnxruntime-genai runs them: their weights, and the ops that a profile of ONNX Runtime has seen."""

from __future__ import annotations

import json
from pathlib import Path

ATTENTION = ("Attention", "GroupQueryAttention", "MultiHeadAttention", "PagedAttention", "Softmax")
PRODUCTS = ("Gemm", "MatMul")
PACKED = "MatMulNBits"


class Weights:
    """The weights of a graph, without loading them: `all_bytes`, and `product_bytes` by the type in which they are kept
    ("float32", "int4"), scales with the weights that they scale; `accuracy_levels` are those of packed products (4:
    activations are rounded to 8 bits, 0 or 1: they stay float32).
    """

    def __init__(self, onnx: object, file: Path) -> None:
        graph = onnx.load(str(file), load_external_data=False).graph
        sizes = {each.name: bytes_of(onnx, each) for each in graph.initializer}
        kinds = {each.name: onnx.helper.tensor_dtype_to_np_dtype(each.data_type).name for each in graph.initializer}
        for node in graph.node:
            if node.op_type == "Transpose" and node.input[0] in sizes:  # a head that is tied to the embedding
                sizes[node.output[0]], kinds[node.output[0]] = sizes[node.input[0]], kinds[node.input[0]]
        self.all_bytes = sum(sizes[each.name] for each in graph.initializer)
        self.product_bytes: dict = {}
        self.accuracy_levels: list = []
        for node in graph.node:
            held = [name for name in node.input if name in sizes]
            if not held or node.op_type not in (*PRODUCTS, PACKED):
                continue
            kind = kinds[held[0]]
            if node.op_type == PACKED:
                said = {each.name: each.i for each in node.attribute}
                kind = "int%d" % said.get("bits", 4)
                self.accuracy_levels = sorted({*self.accuracy_levels, said.get("accuracy_level", 0)})
            self.product_bytes[kind] = self.product_bytes.get(kind, 0) + sum(sizes[name] for name in held)
        self.activations = cache_type(onnx, graph)

    @property
    def types(self) -> list:
        """The types of the multiplied weights, that of the most bytes first."""
        return sorted(self.product_bytes, key=self.product_bytes.get, reverse=True)


def bytes_of(onnx: object, tensor: object) -> int:
    count = 1
    for length in tensor.dims:
        count *= length
    return count * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize


def cache_type(onnx: object, graph: object) -> str | None:
    """The type of the KV cache, which is that of what attention reads; None of a graph without one."""
    kinds = {
        each.type.tensor_type.elem_type for each in graph.input if each.type.tensor_type.elem_type not in (0, 6, 7)
    }
    return onnx.helper.tensor_dtype_to_np_dtype(min(kinds)).name if len(kinds) == 1 else None


class Profile:
    """What ran, by the profiles in a folder: `calls` of each op, `providers` that ran them, and `product_types`, how
    many products were given what type.
    """

    def __init__(self, folder: Path) -> None:
        self.calls: dict = {}
        self.providers: list = []
        self.product_types: dict = {}
        for file in sorted(folder.iterdir()):
            for event in json.loads(file.read_text(encoding="utf-8")):
                said = event.get("args") or {}
                if event.get("cat") == "Node" and "op_name" in said:
                    self._add(said)

    def _add(self, said: dict) -> None:
        op = said["op_name"]
        self.calls[op] = self.calls.get(op, 0) + 1
        if said.get("provider") and said["provider"] not in self.providers:
            self.providers.append(said["provider"])
        if op in (*PRODUCTS, PACKED) and said.get("input_type_shape"):
            for kind in said["input_type_shape"][0]:
                self.product_types[kind] = self.product_types.get(kind, 0) + 1
