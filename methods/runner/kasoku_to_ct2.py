"""The job `to-ct2`: a model's safetensors as CTranslate2 reads it, by CTranslate2's converter, without a tokeniser.

{"source": a model's folder, "folder": made here, "dtype": "bfloat16", "quantisation": "int8"; absent: as `dtype`}

CTranslate2 wants tokens as text, so a token's text is its id. Its package must be importable, besides transformers.
"""

from __future__ import annotations

import json
from pathlib import Path

from kasoku_failure import UnsupportedError


def run(job: dict, wire: object) -> None:
    wire.progress("to-ct2", "importing CTranslate2's converter")
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    class WithoutTokeniser(TransformersConverter):
        def load_tokenizer(self, tokenizer_class: object, model_name_or_path: str, **more: object) -> object:  # noqa: ARG002
            return IdsAsText(vocabulary_size(Path(model_name_or_path)))

    folder = Path(job["folder"])
    made = folder / ".work" / "ct2"  # it is emptied first, and the folder has more
    kind = job.get("quantisation") or job["dtype"]
    wire.progress("to-ct2", "writing model.bin (%s)" % kind)
    try:
        WithoutTokeniser(job["source"]).convert(str(made), quantization=kind)
    except ValueError as error:
        if "No conversion is registered" not in str(error):
            raise
        name = json.loads((Path(job["source"]) / "config.json").read_text(encoding="utf-8")).get("model_type")
        raise UnsupportedError("CTranslate2's converter does not know the architecture %s." % name) from error
    for path in list(made.iterdir()):
        path.rename(folder / path.name)
    wire.result({"type": kind, "ctranslate2": ctranslate2.__version__})


def vocabulary_size(folder: Path) -> int:
    """From the model's config."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int((config.get("text_config") or config)["vocab_size"])


class IdsAsText:
    """Stands for a tokeniser; its special tokens must be in the vocabulary, and are not used."""

    bos_token = eos_token = unk_token = "0"  # noqa: S105

    def __init__(self, size: int) -> None:
        self._size = size

    def get_vocab(self) -> dict:
        return {str(token): token for token in range(self._size)}
