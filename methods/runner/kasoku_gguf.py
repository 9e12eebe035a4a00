"""The jobs that write a GGUF: `to-gguf` from a model's safetensors, `quantise-gguf` from another GGUF.

to-gguf        {"source": a model's folder, "folder": made here, "dtype": "bfloat16"}; llama.cpp's own converter (its
               package `conversion`, and the `gguf` that goes with it) must be importable, besides torch and
               transformers. With "words": true the file has a vocabulary, without which llama-server ends at its
               first token: id 7 is the word t7, and the model's ends of sequence are marked
quantise-gguf  {"source": a folder with model.gguf, "folder": made here, "types": ["Q4_K_M", "Q4_0"], "threads": int}
               by llama.cpp's library; the first type whose blocks fit the widths of all tensors is taken, or the last

Each writes `model.gguf` into the existing folder `folder`. No tokeniser is read from it: ids go in and out.
"""

from __future__ import annotations

import re
from pathlib import Path

from kasoku_failure import UnsupportedError

FILE = "model.gguf"
FILE_TYPES = {"bfloat16": "MOSTLY_BF16", "float16": "MOSTLY_F16", "float32": "ALL_F32"}


def run(job: dict, wire: object) -> None:
    if job["job"] == "to-gguf":
        to_gguf(job, wire)
    else:
        quantise(job, wire)


def to_gguf(job: dict, wire: object) -> None:
    """Safetensors to GGUF, tensor by tensor."""
    wire.progress("to-gguf", "importing llama.cpp's converter")
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    folder = Path(job["source"])
    hparams = ModelBase.load_hparams(folder, False)
    architecture = get_model_architecture(hparams, ModelType.TEXT)
    try:
        converter = get_model_class(architecture, mmproj=False)
    except NotImplementedError as error:
        raise UnsupportedError("llama.cpp's converter does not know the architecture %s." % architecture) from error

    class WithoutTokeniser(converter):
        model_arch = converter.model_arch

        def set_vocab(self) -> None:
            if job.get("words"):
                add_words(self.gguf_writer, self.hparams)
            else:
                self._set_vocab_none()
            if not any("vocab_size" in key for shard in self.gguf_writer.kv_data for key in shard):
                self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])

    kind = getattr(gguf.LlamaFileType, FILE_TYPES[job["dtype"]])
    wire.progress("to-gguf", "writing %s" % FILE)
    with torch.inference_mode():
        WithoutTokeniser(folder, kind, Path(job["folder"]) / FILE).write()
    wire.result({"architecture": architecture, "type": kind.name})


def add_words(writer: object, hparams: dict) -> None:
    """A vocabulary in which each token is a word of its own, of whole characters."""
    import gguf

    count, ends = hparams["vocab_size"], hparams.get("eos_token_id")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["t%d" % token for token in range(count)])
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * count)
    writer.add_token_merges(["t 0"])  # the form asks for one
    for add, token in zip(
        (writer.add_eos_token_id, writer.add_eot_token_id), ends if isinstance(ends, list) else [ends]
    ):
        if token is not None:
            add(token)


def quantise(job: dict, wire: object) -> None:
    """One GGUF to another of fewer bits, by llama.cpp's `llama_model_quantize`."""
    wire.progress("quantise-gguf", "importing llama.cpp")
    import llama_cpp
    from kasoku_llamacpp_log import Log

    log = Log(llama_cpp)
    source, target = Path(job["source"]) / FILE, Path(job["folder"]) / FILE
    for kind in job["types"]:
        fallbacks = _quantised(llama_cpp, log, source, target, kind, job, dry=True)
        if not fallbacks:
            break
    wire.progress("quantise-gguf", "writing %s (%s)" % (FILE, kind))
    _quantised(llama_cpp, log, source, target, kind, job, dry=False)
    wire.result({"type": kind, "tensors_of_another_type": fallbacks})


def _quantised(library: object, log: object, source: Path, target: Path, kind: str, job: dict, dry: bool) -> int:
    """Quantise, or only see how: for how many tensors the type's blocks do not fit."""
    import ctypes

    parameters = library.llama_model_quantize_default_params()
    parameters.ftype = getattr(library, "LLAMA_FTYPE_MOSTLY_" + kind)
    parameters.nthread = job["threads"]
    parameters.dry_run = dry
    log.clear()
    library.llama_backend_init()
    if library.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)) != 0:
        raise UnsupportedError("llama.cpp cannot quantise the model to %s: %s." % (kind, log.fault()))
    found = re.search(r"(\d+) of \d+ tensor\(s\) required fallback", log.text())
    return int(found.group(1)) if found else 0
