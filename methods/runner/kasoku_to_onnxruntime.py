"""The job `to-onnxruntime`: a model's safetensors as ONNX for onnxruntime-genai, by its own model builder.

{"source": a model's folder, "folder": made here, "precision": "fp32" | "int4"}

The packages onnxruntime_genai, onnxruntime, onnx and onnx_ir must be importable, besides torch and transformers.
What is made has no tokeniser: ids go in, ids come out.

Result: {"precision": …, "ops": {op: how many}, "versions": {distribution: version}}.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import kasoku_describe
from kasoku_converted import architecture_of
from kasoku_failure import UnsupportedError

MODEL = "model.onnx"


def run(job: dict, wire: object) -> None:
    wire.progress("to-onnxruntime", "importing the model builder")
    package = importlib.util.find_spec("onnxruntime_genai")
    if package is None or package.origin is None:
        raise UnsupportedError("The model builder of onnxruntime-genai is not among the packages.")
    sys.path.insert(0, str(Path(package.origin).parent / "models"))
    without_tokeniser()
    import builder

    source, folder, precision = job["source"], Path(job["folder"]), job["precision"]
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        arguments = (None, source, str(folder), precision, "cpu", cache)
        try:
            options = builder.parse_extra_options(*arguments, ["hf_token=false", "hf_remote=false"])
            wire.progress("to-onnxruntime", "writing %s (%s)" % (MODEL, precision))
            builder.create_model(*arguments, **options)
        except NotImplementedError as error:
            raise UnsupportedError(
                "onnxruntime-genai's model builder does not know the architecture %s." % architecture_of(source)
            ) from error
    names = ("torch", "transformers")
    wire.result(
        {
            "precision": precision,
            "ops": ops_of(folder / MODEL),
            "versions": {name: kasoku_describe.version_of(name) for name in names},
        }
    )


def without_tokeniser() -> None:
    """The builder reads a tokeniser for special ids and copies it; a model may have none, and ids need none."""
    import transformers

    no_ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    nothing = SimpleNamespace(get_vocab=dict, save_pretrained=lambda *_, **__: (), **no_ids)
    transformers.AutoTokenizer.from_pretrained = staticmethod(lambda *_, **__: nothing)


def ops_of(file: Path) -> dict:
    """How many nodes of each op the graph has."""
    import onnx

    graph = onnx.load(str(file), load_external_data=False).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))
