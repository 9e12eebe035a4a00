"""Quantising while loading: what transformers is asked for, by the name that a method gives under `quantise`.

  torchao-int8       weights in 8 bits with a scale for each row; multiplied as the model's own type
  torchao-int4       weights in 4 bits with a scale and a zero for each group; CUDA only
  torchao-fp8        weights and activations in float8 with a scale for each row; GPUs that multiply it
  bitsandbytes-int8  LLM.int8(): weights and activations in 8 bits, outliers apart
  bitsandbytes-nf4   weights in NF4 with a scale for each block of 64

Linear layers are quantised, the output layer and the embedding are not: that is the libraries' own choice.
"""

from __future__ import annotations

import json
from pathlib import Path

from kasoku_engine import UnsupportedError

GROUPS = (128, 64, 32)  # of int4, the largest that every layer's width is a multiple of
FP8_MULTIPLIES = (8, 9)  # compute capability
WIDTHS = ("hidden_size", "intermediate_size")


def arguments(job: dict, name: str | None, on_cuda: bool) -> dict:
    """More arguments of from_pretrained for a method that quantises; {} for one that does not.

    Raises UnsupportedError where the weights, this device or these packages are not for it.
    """
    if name is None:
        return {}
    place = {"device_map": "cuda:0" if on_cuda else "cpu"}
    stored = job.get("quantisation")
    if stored is not None and stored == name.partition("-")[0]:
        return place  # as it is stored; the evidence shows whether that is what the method stands for
    if stored is not None:
        raise UnsupportedError(
            "The model is quantised already (%s), and this method quantises one that is not." % stored
        )
    makers = {
        "torchao-int8": torchao_int8,
        "torchao-int4": torchao_int4,
        "torchao-fp8": torchao_fp8,
        "bitsandbytes-int8": bitsandbytes_int8,
        "bitsandbytes-nf4": bitsandbytes_nf4,
    }
    if name not in makers:
        raise UnsupportedError("The transformers engine cannot quantise as %r; it has %s." % (name, ", ".join(makers)))
    try:
        config = makers[name](job, on_cuda)
    except (ImportError, AttributeError) as error:
        raise UnsupportedError("This environment cannot quantise as %s: %s" % (name, error)) from error
    return {"quantization_config": config, **place}


def torchao_int8(_job: dict, on_cuda: bool) -> object:
    import torchao.quantization as torchao

    if on_cuda:
        # Without it the compiler writes a layer's weights out as bfloat16 and multiplies those: slower than plain ones.
        from torch._inductor import config

        config.coordinate_descent_tuning = True
    return of_torchao(torchao.Int8WeightOnlyConfig)


def torchao_int4(job: dict, on_cuda: bool) -> object:
    import torchao.quantization as torchao

    if not on_cuda:
        raise UnsupportedError("torchao's int4 kernels are made for NVIDIA GPUs, and here is none.")
    if job["dtype"] != "bfloat16":
        raise UnsupportedError("torchao's int4 kernel multiplies bfloat16 only, not %s." % job["dtype"])
    return of_torchao(torchao.Int4WeightOnlyConfig, group_size=group_of(job), int4_packing_format="tile_packed_to_4d")


def torchao_fp8(job: dict, on_cuda: bool) -> object:
    import torch
    import torchao.quantization as torchao

    if not on_cuda or torch.cuda.get_device_capability() < FP8_MULTIPLIES:
        raise UnsupportedError("Only GPUs of compute capability 8.9 and higher (Ada, Hopper) multiply float8.")
    if job["dtype"] != "bfloat16":
        raise UnsupportedError("torchao's float8 with a scale for each row gives bfloat16, not %s." % job["dtype"])
    return of_torchao(torchao.Float8DynamicActivationFloat8WeightConfig, granularity=torchao.PerRow())


def of_torchao(kind: object, **settings: object) -> object:
    """transformers' config of torchao's, the newer of its two tensor classes where it has both."""
    import inspect

    from transformers import TorchAoConfig

    known = inspect.signature(kind).parameters
    if "version" in known:
        settings["version"] = max(2, known["version"].default)
    # What torchao sets for torch's compiler by itself makes it try every kernel in all directions, for minutes.
    if "set_inductor_config" in known:
        settings["set_inductor_config"] = False
    return TorchAoConfig(kind(**settings))


def bitsandbytes_int8(_job: dict, _on_cuda: bool) -> object:
    from transformers import BitsAndBytesConfig

    checked_bitsandbytes()
    return BitsAndBytesConfig(load_in_8bit=True)


def bitsandbytes_nf4(job: dict, _on_cuda: bool) -> object:
    import torch
    from transformers import BitsAndBytesConfig

    checked_bitsandbytes()
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=getattr(torch, job["dtype"])
    )


def checked_bitsandbytes() -> None:
    import bitsandbytes  # noqa: F401 - fails here with its own words, and not in transformers


def group_of(job: dict) -> int:
    """The weights that share a scale. Raises UnsupportedError where no size divides every layer's width."""
    config = json.loads((Path(job["model_folder"]) / "config.json").read_text(encoding="utf-8"))
    config = {**config, **(config.get("text_config") or {})}
    widths = [config[name] for name in WIDTHS if isinstance(config.get(name), int)]
    for group in GROUPS:
        if widths and all(width % group == 0 for width in widths):
            return group
    raise UnsupportedError("int4 takes groups of 32 weights at least, and this model's layers are %s wide." % widths)
