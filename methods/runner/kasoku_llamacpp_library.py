"""llama.cpp's library as llama-cpp-python binds it: the ops of a step, and facts that only its log has."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from kasoku_engine import UnsupportedError

MIB = 1 << 20
TORCH_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
ATTENTION = ("FLASH_ATTN_EXT", "SOFT_MAX")
PRODUCTS = ("MUL_MAT", "MUL_MAT_ID")
OF_WEIGHTS = 1  # ggml's GGML_BACKEND_BUFFER_USAGE_WEIGHTS: the KV cache is multiplied too, and lies in another
MAX_SOURCES = 10


def gguf_in(folder: Path) -> Path:
    """The GGUF of a folder, the first of its parts where it has several. Raises UnsupportedError."""
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise UnsupportedError("%s has no GGUF, which is what llama.cpp reads." % folder)
    return files[0]


class Tensor(ctypes.Structure):
    """The first fields of ggml's `struct ggml_tensor`."""


Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(Tensor) * MAX_SOURCES),
]


class SeenOps:
    """Every op of the graphs that a context computes, with the weights each multiplied by.

    `callback` goes into the context's `cb_eval`; it wants no data, so that the graph is computed in one piece.
    """

    def __init__(self, library: object) -> None:
        base = ctypes.CDLL(str(Path(library.__file__).parent / "lib" / "libggml-base.so"))
        for name in ("ggml_op_desc", "ggml_type_name", "ggml_backend_buffer_name"):
            getattr(base, name).restype = ctypes.c_char_p
        base.ggml_op_desc.argtypes = [ctypes.POINTER(Tensor)]
        base.ggml_type_name.argtypes = [ctypes.c_int]
        base.ggml_backend_buffer_name.argtypes = base.ggml_backend_buffer_get_usage.argtypes = [ctypes.c_void_p]
        base.ggml_nbytes.argtypes, base.ggml_nbytes.restype = [ctypes.POINTER(Tensor)], ctypes.c_size_t
        self._base = base
        self.calls: dict = {}
        self.weight_bytes: dict = {}  # by type
        self.weight_tensors: dict = {}  # their number, by type
        self.buffer_bytes: dict = {}  # of weights, by the buffer that they lie in
        kind = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.POINTER(Tensor), ctypes.c_bool, ctypes.c_void_p)
        self._function = kind(self._see)
        self.callback = ctypes.cast(self._function, ctypes.c_void_p)

    def _see(self, tensor: object, ask: bool, data: object) -> bool:  # noqa: ARG002
        if not ask:
            return True
        op = self._base.ggml_op_desc(tensor).decode()
        self.calls[op] = self.calls.get(op, 0) + 1
        weight = tensor.contents.src[0] if op in PRODUCTS else None
        buffer = weight.contents.buffer if weight else None
        if buffer and self._base.ggml_backend_buffer_get_usage(buffer) == OF_WEIGHTS:
            kind = self._base.ggml_type_name(weight.contents.type).decode()
            size = self._base.ggml_nbytes(weight)
            place = self._base.ggml_backend_buffer_name(buffer).decode()
            self.weight_bytes[kind] = self.weight_bytes.get(kind, 0) + size
            self.weight_tensors[kind] = self.weight_tensors.get(kind, 0) + 1
            self.buffer_bytes[place] = self.buffer_bytes.get(place, 0) + size
        return False


def buffers(log: str, what: str) -> dict:
    """Bytes by backend of the buffers of one kind ("KV", "model", "compute"), as the log says: {"CPU": 1179648}."""
    sizes: dict = {}
    for backend, size in re.findall(r"(\S+)\s+%s buffer size\s*=\s*([\d.]+) MiB" % what, log):
        sizes[backend] = sizes.get(backend, 0) + round(float(size) * MIB)
    return sizes


def gpus_with_parts(log: str) -> list:
    """The GPUs that the log says have layers' weights, or their part of the KV cache: ["CUDA0", "CUDA1"].

    Weights that are split by rows lie in one buffer of all GPUs ("CUDA_Split"), the KV cache on each layer's.
    """
    return sorted(name for name in {**buffers(log, "model"), **buffers(log, "KV")} if re.fullmatch(r"CUDA\d+", name))


def tensor_types(log: str) -> dict:
    """How many tensors the file has of each type, as the log of its loading says: {"bf16": 211, "f32": 61}."""
    return {kind: int(count) for kind, count in re.findall(r"- type\s+(\w+):\s+(\d+) tensors", log)}


def offloaded(log: str) -> tuple:
    """(layers on a GPU, layers that could be), as the log says; (0, None) where it speaks of none."""
    found = re.search(r"offloaded (\d+)/(\d+) layers to GPU", log)
    return (int(found.group(1)), int(found.group(2))) if found else (0, None)


def system_facts(library: object) -> dict:
    """What the library was built with and found in the processor: {"CPU": ["AVX2", …]}, by backend."""
    said = library.llama_print_system_info().decode(errors="replace")
    facts: dict = {}
    backend = "CPU"
    for part in said.split("|"):
        head, _, rest = part.rpartition(" : ")
        backend = head.strip() or backend
        name, _, value = rest.partition("=")
        if value.strip() not in ("", "0"):
            shown = name.strip() if value.strip() == "1" else "%s %s" % (name.strip(), value.strip())
            facts.setdefault(backend, []).append(shown)
    return facts


def plain_type(types: dict) -> str | None:
    """torch's name of the type that most tensors have; None where that is a packed one, or nothing is known."""
    return TORCH_NAMES.get(max(types, key=types.get)) if types else None
