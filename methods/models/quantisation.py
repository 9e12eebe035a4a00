"""How a model's weights are quantised, as its files say, and how many weights its packed tensors hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

from methods.base.user_path import kind
from methods.models.config import ConfigError, read_json
from methods.models.safetensors_folder import Tensor

MODELOPT = "hf_quant_config.json"  # where NVIDIA's ModelOpt says it instead of in config.json
BITS = {"fp8": 8, "fbgemm_fp8": 8, "mxfp8": 8, "mxfp4": 4, "nvfp4": 4}  # of those that leave no choice
NAMES = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "fp8": "FP8",
    "fbgemm_fp8": "FBGEMM's FP8",
    "mxfp4": "MXFP4",
    "modelopt": "ModelOpt",
    "gguf": "GGUF",
}
BESIDE_WEIGHTS = re.compile(
    r"[._](?:scales|qzeros|g_idx|absmax|quant_map|SCB|weight_format|weight_scale(?:_inv|_2)?|scale_inv|input_scale|"
    r"output_scale|[kqv]_scale|zero_point|weight_shape|global_scale)$|\.quant_state\."
)
EIGHT_BITS = ("I8", "U8", "F8_E5M2", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
# torchao's names for what packs nothing: its 4 bits are padded and interleaved, in a way that depends on the device.
EIGHT_BIT_CONFIG = re.compile(r"\b(?:Int8|Float8)(?:WeightOnly|DynamicActivation(?:Int8|Float8)Weight)Config\b")
PLAIN = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True, slots=True)
class Quantisation:
    """`method` by the name that transformers and vLLM know it by; `bits` per weight, None where nothing says it."""

    method: str
    bits: int | None

    @property
    def name(self) -> str:
        """As people write it."""
        return name_of(self.method)


def name_of(method: str) -> str:
    """A method of quantisation as people write it."""
    return NAMES.get(method, method)


def quantisation_in(folder: Path) -> Quantisation | None:
    """The quantisation of the model in `folder`; None where it is plain. Raises ConfigError.

    An MLX model is refused: its weights are packed for Apple's GPUs, and no engine here reads them.
    """
    config = read_json(folder / "config.json")
    found = said_by(config)
    if found is None and kind(folder / MODELOPT) == "file":
        return Quantisation("modelopt", None)
    if found is not None and found.method == "mlx":
        raise ConfigError(
            f"{folder} holds a model quantised for MLX, which runs on Apple silicon alone; use the model that it was "
            "made from."
        )
    return found


def said_by(config: Mapping[str, object]) -> Quantisation | None:
    """What a config.json says of its weights; of several parts of a model, of its text's."""
    inner = config.get("text_config")
    for place in (config, inner if isinstance(inner, dict) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            said = place.get(key)
            if isinstance(said, dict) and said:
                return _read(said)
    return None


def parameters(tensors: Iterable[Tensor], quantised: Quantisation | None) -> int | None:
    """The number of weights, those packed into integers counted one by one; None where their packing is not known."""
    total = 0
    for tensor in tensors:
        count = prod(tensor.shape) if quantised is None else _unpacked(tensor, quantised)
        if count is None:
            return None
        total += count
    return total


def _read(said: Mapping[str, object]) -> Quantisation:
    method = said.get("quant_method")
    if not isinstance(method, str):
        if "load_in_4bit" in said or "load_in_8bit" in said:  # as bitsandbytes was written before methods had names
            method = "bitsandbytes"
        else:
            method = "mlx" if "group_size" in said and "bits" in said else "unknown"
    if method == "bitsandbytes":
        return Quantisation(method, 4 if said.get("load_in_4bit") else 8)
    if method == "torchao":
        return Quantisation(
            method, 8 if EIGHT_BIT_CONFIG.search(json.dumps(said.get("quant_type"), default=str)) else None
        )
    return Quantisation(method, _bits(said) or BITS.get(method))


def _bits(said: Mapping[str, object]) -> int | None:
    groups = said.get("config_groups")
    if isinstance(groups, dict):
        weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        found = {each.get("num_bits") for each in weights if isinstance(each, dict)}
    else:
        found = {said.get("bits", said.get("w_bit"))}
    only = found.pop() if len(found) == 1 else None
    return only if isinstance(only, int) and 0 < only <= 32 else None


def _unpacked(tensor: Tensor, quantised: Quantisation) -> int | None:
    count = prod(tensor.shape)
    if BESIDE_WEIGHTS.search(tensor.name):
        return 0
    if tensor.dtype in PLAIN:
        return count
    if tensor.dtype in ("I32", "U32") and quantised.bits:
        return count * 32 // quantised.bits
    if tensor.dtype == "U8" and quantised.bits == 4:
        return count * 2
    return count if tensor.dtype in EIGHT_BITS and quantised.bits == 8 else None
