"""The weights in a model's folder: safetensors only, rejected if incomplete, counted from their headers alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

from methods.base.bounded_read import read_regular
from methods.base.progress import Progress, Report
from methods.base.user_path import PathError, kind, reason

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
ADAPTER = "adapter_config.json"
LARGEST_HEADER = 100_000_000  # the format's own limit
LARGEST_POINTER = 1024  # bytes, by the format of Git LFS
POINTER = b"version https://git-lfs.github.com/spec/"
BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}


class WeightsError(Exception):
    """The weights cannot be used. The text is one sentence for the user."""


class Tensor(NamedTuple):
    """One tensor of a safetensors file: its name, dtype by the format's name, shape, and bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Weights:
    """What the headers say: files in order, all tensors, their bytes, and the dtype of most of these."""

    files: tuple[Path, ...]
    tensors: tuple[Tensor, ...]
    total_bytes: int
    dtype: str


def read_weights(folder: Path) -> Weights:
    """The weights in `folder`, each file checked against its header. Raises WeightsError."""
    files = weight_files(folder)
    found = tuple(tensor for path in files for tensor in tensors(path))
    by_dtype: Counter[str] = Counter()
    for tensor in found:
        by_dtype[tensor.dtype] += tensor.size
    if not by_dtype.total():
        raise WeightsError(f"{files[0]} contains no tensors, so it is not a model.")
    most = by_dtype.most_common(1)[0][0]
    return Weights(files, found, by_dtype.total(), TORCH_NAMES.get(most, most.lower()))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files that make up the model in `folder`. Raises WeightsError if any is missing."""
    index = folder / INDEX
    if kind(folder / SINGLE) != "absent":
        return (folder / SINGLE,)
    if kind(index) != "absent":
        names = shard_names(index)
        if missing := [name for name in names if not os.path.isfile(folder / name)]:
            raise WeightsError(
                f"{len(missing)} of the {len(names)} weight files that {index} names are missing, {missing[0]} first; "
                "fetch the model again."
            )
        return tuple(folder / name for name in names)
    raise WeightsError(refusal(folder, sorted(entry.name for entry in folder.iterdir())))


def left_out(folder: Path) -> frozenset[str]:
    """The names in a model's folder that an engine could load in place of `weight_files`, or beside them."""
    names = {path.name for path in weight_files(folder)}
    more = {path.name for path in folder.glob("*.safetensors")} - names
    if names == {SINGLE} and kind(folder / INDEX) != "absent":
        more.add(INDEX)
    if kind(folder / ADAPTER) != "absent":
        more.add(ADAPTER)
    return frozenset(more)


def shard_names(index: Path) -> list[str]:
    """The distinct files that an index of shards names. Raises WeightsError."""
    try:
        mapping = json.loads(read_regular(index).decode())["weight_map"]
        names = sorted(set(mapping.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{index} is not an index of safetensors files; fetch the model again.") from error
    if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
        raise WeightsError(f"{index} names no weight files in its folder; fetch the model again.")
    return names


def refusal(where: object, names: list[str]) -> str:
    """Why the files of these names are not a model that can be run."""
    return another_kind(where, names) or f"{where} has neither {SINGLE} nor {INDEX}, so it is not a model."


def another_kind(where: object, names: list[str]) -> str:
    """What the files of these names are if they are something other than safetensors; "" where nothing says so."""
    if any(name.endswith(PICKLED) for name in names):
        return (
            f"{where} holds only pickled weights, which can run code when they are loaded and are never loaded here; "
            "convert them somewhere you trust them, with transformers: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)."
        )
    if ADAPTER in names:
        return f"{where} holds an adapter, not a model; merge it into its base model and save that as safetensors."
    if any(name.endswith(".gguf") for name in names):
        return f"{where} holds GGUF, not safetensors; name a folder or a repository with the model's safetensors."
    return ""


def is_pointer(path: Path) -> bool:
    """Whether this is what Git LFS leaves in a file's place where it has not fetched it. Raises OSError."""
    if kind(path) != "file" or path.stat().st_size > LARGEST_POINTER:
        return False
    with path.open("rb") as file:
        return file.read(len(POINTER)) == POINTER


def tensors(path: Path) -> list[Tensor]:
    """The tensors of a safetensors file, from its header. Raises WeightsError.

    The format: 8 bytes little-endian, the header's length; the header, JSON; then the tensors without a gap.
    """
    try:
        if kind(path) != "file":  # opening a pipe of that name would wait for a writer
            raise WeightsError(f"{path} is not a file.")
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > LARGEST_HEADER or 8 + length > size:
                raise WeightsError(_damaged(path, "its header is truncated or invalid"))
            header = json.loads(file.read(length))
        found = []
        end = 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            bits = BITS.get(entry["dtype"])
            if bits is not None and (last - first) * 8 != prod(entry["shape"]) * bits:
                raise WeightsError(_damaged(path, f"the size of its tensor {name!r} does not match its shape"))
            found.append(Tensor(name, str(entry["dtype"]), tuple(map(int, entry["shape"])), last - first))
            end = max(end, last)
    except PathError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {reason(error)}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(_damaged(path, "its header is invalid")) from error
    if 8 + length + end != size:
        missing = 8 + length + end - size
        what = f"{missing} bytes are missing at its end" if missing > 0 else f"it has {-missing} bytes too many"
        raise WeightsError(_damaged(path, what))
    return found


def _damaged(path: Path, what: str) -> str:
    return f"{path} is not a complete safetensors file ({what}); fetch or copy it again."


def sha256_of(path: Path, report: Report, phase: str) -> str:
    """The digest of one file, read once."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    done = reported = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            done += len(chunk)
            if done - reported >= 1 << 26 or done == size:
                report(Progress(phase, f"checksum of {path.name}", done, size, "bytes"))
                reported = done
    return digest.hexdigest()


def digest_of(digests: dict[str, str]) -> str:
    """One digest for several files: SHA-256 over the output of `sha256sum` for them, sorted by name."""
    lines = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def identity(path: Path) -> tuple[int, int]:
    """(size, time of last change): identifies a file as still the one that was read."""
    stat = os.stat(path)  # noqa: PTH116 - through a symlink, as its reader would
    return stat.st_size, stat.st_mtime_ns
