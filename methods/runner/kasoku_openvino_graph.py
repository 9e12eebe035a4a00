"""OpenVINO's graphs: one is cut so that it computes the logits that are asked for, and read for what ran."""

from __future__ import annotations

LOGITS = "logits"
ROWS = "kasoku_rows"  # the input that says how many rows: −3 is the last three
# What a model may do to its logits, one by one, after its last matrix product.
AFTERWARDS = ("Add", "Clamp", "Convert", "Divide", "Multiply", "Subtract", "Tanh")
ATTENTION = ("PagedAttention", "ScaledDotProductAttention", "SoftMax", "Softmax")
PRODUCTS = ("FullyConnected", "MatMul")
TORCH_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
NOT_YET = ("undef", "unknown")  # how the name of a kernel begins that has not been chosen, for nothing has run


def cut_to_rows(model: object) -> bool:
    """Have the model compute the logits of its last rows alone, as many as its new input ROWS says.

    openvino-genai cuts them to the last one in the same way; what is exported computes those of a whole prompt. False
    where the last matrix product is not found: the model is then as it was.
    """
    import numpy
    from openvino import opset13

    node = model.output(LOGITS).get_node().input_value(0).get_node()
    while node.get_type_name() in AFTERWARDS:
        computed = [value for value in node.input_values() if value.get_node().get_type_name() != "Constant"]
        if len(computed) != 1:
            return False
        node = computed[0].get_node()
    hidden = node.input_value(0)
    if node.get_type_name() != "MatMul" or len(hidden.get_partial_shape()) != 3:
        return False
    rows = opset13.parameter([1], numpy.int64, name=ROWS)
    rows.output(0).set_names({ROWS})
    end, one = (opset13.constant(numpy.array([value], numpy.int64)) for value in (2**31 - 1, 1))
    node.input(0).replace_source_output(opset13.slice(hidden, rows, end, one, one).output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()
    return True


def constant_bytes(model: object) -> int:
    """Bytes of all constants of a model: its weights, with their scales."""
    return sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")


class Ran:
    """What a compiled model ran, read after it has run: kernels are chosen when the first shapes are known.

    `attention_kernels` and `product_kernels` count the nodes by kernel ("FullyConnected brgemm_avx512_bf16"), and under
    the name of the layer those that share the kernel of an earlier node, of which none is told. `weight_bytes` are
    those of the constants that products multiply by, by the type in which they are multiplied; `maths` are the types of
    what is multiplied with them, that of the most bytes first; `kv_types` those of the cache.
    """

    def __init__(self, compiled: object) -> None:
        self.attention_kernels: dict = {}
        self.product_kernels: dict = {}
        self.weight_bytes: dict = {}
        self.kv_types: list = []
        maths: dict = {}
        for op in compiled.get_runtime_model().get_ordered_ops():
            info = op.get_rt_info()
            layer, kernel = said(info, "layerType"), said(info, "primitiveType")
            name = layer if kernel.startswith(NOT_YET) else "%s %s" % (layer, kernel)
            if layer in ATTENTION:
                self.attention_kernels[name] = self.attention_kernels.get(name, 0) + 1
                kind = said(info, "kv_cache_precision")
                if kind and kind not in self.kv_types:
                    self.kv_types.append(kind)
            elif layer in PRODUCTS and is_constant(op.input_value(1)):
                self.product_kernels[name] = self.product_kernels.get(name, 0) + 1
                kind, math = said(info, "runtimePrecision"), op.input_value(0).get_element_type().get_type_name()
                size = elements(op.input_value(1)) * bits_of(kind) // 8
                self.weight_bytes[kind] = self.weight_bytes.get(kind, 0) + size
                maths[math] = maths.get(math, 0) + size
        self.maths = sorted(maths, key=maths.get, reverse=True)

    @property
    def weight_types(self) -> list:
        """The types of the multiplied weights, that of the most bytes first."""
        return sorted(self.weight_bytes, key=self.weight_bytes.get, reverse=True)

    @property
    def dtype(self) -> str | None:
        """What most is computed in, by torch's name where it has one."""
        return TORCH_NAMES.get(self.maths[0], self.maths[0]) if self.maths else None


def said(info: object, name: str) -> str:
    """A fact of a node of a compiled model, "" where it has none."""
    if name not in info:
        return ""
    value = info[name]
    return str(value.astype(str)) if hasattr(value, "astype") else str(value)


def is_constant(value: object) -> bool:
    return said(value.get_node().get_rt_info(), "layerType") == "Const"


def elements(value: object) -> int:
    count = 1
    for length in value.get_partial_shape().to_shape():
        count *= length
    return count


def bits_of(kind: str) -> int:
    """How many bits an element of a type has, by OpenVINO's name of it."""
    digits = "".join(character for character in kind if character.isdigit())
    return int(digits) if digits else 8
