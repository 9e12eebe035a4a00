"""A model's weights as the engine `resident` reads them: each matrix once, row after row, in the order of its kernels.

transformers' own modules, which read the prompt, keep working: their weights become views of what is packed here, and
where it is quantised, linear layers that unpack it. Nothing is held twice.
"""

from __future__ import annotations

from kasoku_engine import UnsupportedError
from kasoku_resident_shape import Parts, Shape

ROWS_AT_ONCE = 8192
LARGEST = {"int8": 127.0, "fp8": 448.0}  # the largest number of a format
PLAIN, BIASED = 0, 1  # as numbers of a float type, or as int8 plus 128


class Matrix:
    """Weights (rows, width) as they are stored, float32 `scales` of rows, or None, and `biases`, or None."""

    def __init__(self, weights: object, scales: object, biases: object) -> None:
        self.weights, self.scales, self.biases = weights, scales, biases
        self.rows, self.width = weights.shape
        self.format = BIASED if "uint8" in str(weights.dtype) else PLAIN

    def nbytes(self) -> int:
        return bytes_of_all((self.weights, self.scales, self.biases))

    def times(self, vector: object) -> object:
        """Of each row, its numbers without its scale times those of a vector: float32 (rows)."""
        import torch

        starts = range(0, self.rows, ROWS_AT_ONCE)
        return torch.cat([self._numbers(slice(at, at + ROWS_AT_ONCE)) @ vector.float() for at in starts])

    def _numbers(self, rows: slice) -> object:
        """Of some of the rows, as float32 and without their scales."""
        import torch

        return self.weights[rows].to(torch.float32) - (128.0 if self.format == BIASED else 0.0)


class Layer:
    """The matrices and norms of one layer."""

    def __init__(self, parts: Parts, how: str) -> None:
        attention = parts.of("attention")
        self.scaling = getattr(attention, "scaling", attention.head_dim**-0.5)
        self.before_attention, self.before_mlp = parts.of("before_attention"), parts.of("before_mlp")
        self.query_norm, self.key_norm = parts.of("query_norm"), parts.of("key_norm")
        self.qkv = packed([parts.of(each) for each in ("qkv", "query", "key", "value") if parts.of(each)], how)
        self.out = packed([parts.of("out")], how)
        gate = parts.of("gate")
        self.mlp = packed([gate, parts.of("up")], how, alternating=True) if gate else packed([parts.of("up")], how)
        self.down = packed([parts.of("down")], how)

    def matrices(self) -> tuple:
        return self.qkv, self.out, self.mlp, self.down

    def norms(self) -> list:
        norms = (self.before_attention, self.before_mlp, self.query_norm, self.key_norm)
        return [each for each in norms if each is not None]


class Weights:
    """All that a step reads of a model of transformers, which goes on with views of it. `how` is "plain", "int8" or
    "fp8"."""

    def __init__(self, model: object, shape: Shape, how: str) -> None:
        layout = shape.layout
        self.embeddings = model.get_submodule(layout.embeddings).weight
        self.positions = model.get_submodule(layout.positions).weight if layout.positions else None
        self.layers = [Layer(Parts(model, layout, number), how) for number in range(shape.layers)]
        self.last_norm = model.get_submodule(layout.last_norm)
        self.head = head_of(model, how)

    def matrices(self) -> list:
        return [each for layer in self.layers for each in layer.matrices()] + [self.head]

    def read_each_token(self) -> int:
        """Bytes: all but the tables in which a row is looked up, and those rows."""
        norms = [norm for layer in self.layers for norm in layer.norms()]
        vectors = [own for norm in (*norms, self.last_norm) for own in norm.parameters()]
        rows = [table[0] for table in (self.embeddings, self.positions) if table is not None]
        return sum(each.nbytes() for each in self.matrices()) + bytes_of_all((*vectors, *rows))

    def held(self) -> int:
        """Bytes in memory: what is read, and the tables, but for one that is the output layer too."""
        tables = [each for each in (self.embeddings, self.positions) if each is not None]
        rows = bytes_of_all([table[0] for table in tables])
        own = [table for table in tables if table.data_ptr() != self.head.weights.data_ptr()]
        return self.read_each_token() - rows + bytes_of_all(own)


def bytes_of_all(tensors: object) -> int:
    """Of those that are not None."""
    return sum(each.numel() * each.element_size() for each in tensors if each is not None)


def packed(modules: list, how: str, alternating: bool = False) -> Matrix:
    """One matrix of the rows of these linear layers: after one another, or `alternating` a row of each."""
    import torch

    turned = [is_turned(module) for module in modules]
    with torch.no_grad():
        parts = [each.weight.t() if across else each.weight for each, across in zip(modules, turned)]
        whole = interleaved(parts) if alternating else parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)
        biases = None
        if any(each.bias is not None for each in modules):
            own = [bias_of(each, part.shape[0]) for each, part in zip(modules, parts)]
            biases = interleaved(own) if alternating else torch.cat(own)
    matrix = Matrix(*stored(whole.detach(), how), biases)
    begin = 0
    for place, (module, part, across) in enumerate(zip(modules, parts, turned)):
        rows = slice(place, None, len(modules)) if alternating else slice(begin, begin + part.shape[0])
        begin += part.shape[0]
        go_on_with(module, matrix, rows, across)
    return matrix


def head_of(model: object, how: str) -> Matrix:
    """The output layer. Unquantised it may be the embedding itself."""
    module = model.get_submodule("lm_head")
    matrix = Matrix(*stored(module.weight.detach(), how), module.bias)
    if matrix.scales is not None:
        go_on_with(module, matrix, slice(None), across=False)
    return matrix


def stored(weights: object, how: str) -> tuple:
    """(weights as they are stored, scales of rows or None): rounded to the nearest, nothing calibrated."""
    import torch

    if how == "plain":
        return weights, None
    if how not in LARGEST:
        raise UnsupportedError('The option weights is "plain", "int8" or "fp8", not %r.' % how)
    kept = torch.empty(
        weights.shape, dtype=torch.uint8 if how == "int8" else torch.float8_e4m3fn, device=weights.device
    )
    scales = torch.empty(weights.shape[0], dtype=torch.float32, device=weights.device)
    for begin in range(0, weights.shape[0], ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        most = weights[rows].float().abs().amax(dim=1)
        scales[rows] = torch.where(most > 0, most / LARGEST[how], torch.ones_like(most))
        numbers = weights[rows].float() / scales[rows, None]
        kept[rows] = (numbers.round_() + 128.0).to(torch.uint8) if how == "int8" else numbers.to(torch.float8_e4m3fn)
    return kept, scales


def is_turned(module: object) -> bool:
    """Whether it keeps its weights as (inputs, outputs): transformers' Conv1D."""
    return type(module).__name__ == "Conv1D"


def interleaved(parts: list) -> object:
    import torch

    return torch.stack(parts, dim=1).flatten(0, 1).contiguous()


def bias_of(module: object, rows: int) -> object:
    import torch

    return (
        module.weight.new_zeros(rows) if module.bias is None else module.bias.detach() + torch.zeros_like(module.bias)
    )


def go_on_with(module: object, matrix: Matrix, rows: slice, across: bool) -> None:
    """Have a linear layer of transformers use some rows of what is packed."""
    import torch

    if matrix.scales is None:
        view = matrix.weights[rows]
        module.weight = torch.nn.Parameter(view.t() if across else view, requires_grad=False)
        return
    dtype = module.weight.dtype
    module.weight = None  # what it was made of is let go
    bias = module.bias
    from kasoku_resident_unpacking import unpacked  # where Triton is

    module.forward = lambda x: torch.nn.functional.linear(x, unpacked(matrix, rows, dtype), bias)
