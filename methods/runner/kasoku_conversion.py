"""The jobs that make a model folder: `convert` (GGUF), `synthesize` (random weights), `convert-tokeniser`.

convert            {"gguf": file, "folder": made here, "dtype": "bfloat16"}
synthesize         {"config": {a config.json with model_type}, "seed": int, "folder": made here, "dtype": "bfloat16"}
convert-tokeniser  {"source": a model's folder, "folder": where tokenizer.json goes, "trust_remote_code": bool}

Each writes into the existing folder `folder`; nothing is fetched, and code that comes with a model is run only where it
is trusted.
Result: {"versions": {distribution: version}}.
"""

from __future__ import annotations

from pathlib import Path


def run(job: dict, wire: object) -> None:
    kind = job["job"]
    wire.progress(kind, "importing transformers")
    if kind == "convert":
        convert(job, wire)
    elif kind == "synthesize":
        synthesize(job, wire)
    else:
        convert_tokeniser(job, wire)
    wire.result({"versions": versions("torch", "transformers", "tokenizers", "safetensors", "gguf")})


def versions(*names: str) -> dict:
    import kasoku_describe

    return {name: kasoku_describe.version_of(name) for name in names}


def convert(job: dict, wire: object) -> None:
    """A GGUF's tensors, dequantised to `dtype`, as safetensors; its tokeniser and chat template beside them."""
    import kasoku_failure
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        from transformers import GgufConfig
    except ImportError as error:
        raise kasoku_failure.UnsupportedError(
            "This environment's transformers cannot dequantise GGUF (it has no GgufConfig); use 5.17 or later."
        ) from error
    source, name = str(Path(job["gguf"]).parent), Path(job["gguf"]).name
    wire.progress("convert", "reading %s" % name)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=name,
        dtype=getattr(torch, job["dtype"]),
        quantization_config=GgufConfig(dequantize=True),
        trust_remote_code=False,
    )
    wire.progress("convert", "writing safetensors")
    model.save_pretrained(job["folder"])
    wire.progress("convert", "writing the tokeniser")
    AutoTokenizer.from_pretrained(source, gguf_file=name, trust_remote_code=False).save_pretrained(job["folder"])


def synthesize(job: dict, wire: object) -> None:
    """Random weights at a real shape, as the architecture itself initialises them, so that logits stay finite."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    fields = dict(job["config"])
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    torch.manual_seed(job["seed"])
    wire.progress("synthesize", "initialising %s" % type(config).__name__)
    # The parameters are drawn in float32 and rounded, so that the values do not depend on a kernel of the short type.
    model = AutoModelForCausalLM.from_config(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    wire.progress("synthesize", "rounding to %s" % job["dtype"], 0, count, "parameters")
    model = model.to(getattr(torch, job["dtype"]))
    model.generation_config.pad_token_id = fields.get("pad_token_id")
    wire.progress("synthesize", "writing safetensors", count, count, "parameters")
    model.save_pretrained(job["folder"])


def convert_tokeniser(job: dict, wire: object) -> None:
    """tokenizer.json from a slow tokeniser's files (a SentencePiece model, a vocabulary and merges)."""
    import kasoku_failure
    from transformers import AutoTokenizer

    wire.progress("convert-tokeniser", "reading the slow tokeniser")
    trusted = bool(job.get("trust_remote_code", False))
    try:
        tokeniser = AutoTokenizer.from_pretrained(job["source"], use_fast=True, trust_remote_code=trusted)
    except ValueError as error:
        raise kasoku_failure.code_refused(error, job["source"]) or error from error
    backend = getattr(tokeniser, "backend_tokenizer", None)
    if backend is None:
        raise kasoku_failure.UnsupportedError(
            "%s has no fast form, so it cannot be converted to tokenizer.json." % type(tokeniser).__name__
        )
    wire.progress("convert-tokeniser", "writing tokenizer.json")
    backend.save(str(Path(job["folder"]) / "tokenizer.json"))
