"""The forms that engines read in place of a model's safetensors, and how each is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

TORCH: Final = "torch"  # the environment that reads every model
OPENVINO_EXPORT: Final = "openvino-export"
ONNX_BUILDER: Final = ("onnxruntime_genai", "onnxruntime", "onnx", "onnx_ir", "ml_dtypes", "flatbuffers")
AS_GIVEN: Final = "gguf"  # the form that a user's own GGUF has already


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """A form of a model: made once by a runner's job, checked, and kept.

    The job `job` with `options` runs in the Python of the environment `environment` (None: the engine's own), and can
    import the top-level `packages` of the engine's environment. `source` is the conversion that it starts from (None:
    the model's folder). `made_by` are the distributions of the engine's environment whose version decides what is made.
    `size` is how many bytes it takes at most for each byte of a model of two bytes per weight.

    `most_unexplained` is the bound of the check (methods/runner/kasoku_forced.py): the share of the variance of the
    logits, over the vocabulary, that the converted model may not share with the model it was made from. Rounding to
    bfloat16 leaves some 0.001, to 8 bits 0.005 and to 4 bits up to 0.3 unexplained; a tensor in the wrong place or
    the wrong order, about 2, which is what two unrelated models have. None: what is made is another model, one
    that drafts for this one, and is not held to it.
    """

    title: str
    job: str
    options: Mapping[str, object] = field(default_factory=dict)
    environment: str | None = None
    packages: tuple[str, ...] = ()
    source: str | None = None
    made_by: tuple[str, ...]
    size: float
    most_unexplained: float | None


CONVERSIONS: Final[Mapping[str, Conversion]] = {
    "first-layers": Conversion(
        title="a draft model of its first layers",
        job="to-first-layers",
        options={"share": 0.25},
        environment=TORCH,
        made_by=(),
        size=0.7,  # embeddings and output layer are there in full
        most_unexplained=None,
    ),
    "gguf": Conversion(
        title="GGUF",
        job="to-gguf",
        environment=TORCH,
        packages=("conversion", "gguf"),
        made_by=("llama-cpp-python",),
        size=1.05,
        most_unexplained=0.01,
    ),
    "gguf-words": Conversion(
        title="GGUF with a vocabulary",
        job="to-gguf",
        options={"words": True},
        environment=TORCH,
        packages=("conversion", "gguf"),
        made_by=("llama-cpp-python",),
        size=1.05,
        most_unexplained=0.01,
    ),
    "gguf-q8": Conversion(
        title="GGUF of 8 bits",
        job="quantise-gguf",
        options={"types": ["Q8_0"]},
        source="gguf",
        made_by=("llama-cpp-python",),
        size=0.6,
        most_unexplained=0.05,
    ),
    "gguf-q4": Conversion(
        title="GGUF of 4 bits",
        job="quantise-gguf",
        options={"types": ["Q4_K_M", "Q4_0"]},  # Q4_K has blocks of 256 weights, which do not fit every width
        source="gguf",
        made_by=("llama-cpp-python",),
        size=0.45,
        most_unexplained=0.5,
    ),
    "openvino": Conversion(
        title="OpenVINO's form",
        job="to-openvino",
        environment=OPENVINO_EXPORT,
        made_by=("openvino",),
        size=2.1,  # of float32, where the session's dtype is that
        most_unexplained=0.01,
    ),
    "openvino-int8": Conversion(
        title="OpenVINO's form of 8 bits",
        job="compress-openvino",
        options={"bits": 8},
        environment=OPENVINO_EXPORT,
        source="openvino",
        made_by=("openvino",),
        size=0.6,
        most_unexplained=0.05,
    ),
    "openvino-int4": Conversion(
        title="OpenVINO's form of 4 bits",
        job="compress-openvino",
        options={"bits": 4},
        environment=OPENVINO_EXPORT,
        source="openvino",
        made_by=("openvino",),
        size=0.6,
        most_unexplained=0.5,
    ),
    "onnx": Conversion(
        title="ONNX",
        job="to-onnxruntime",
        options={"precision": "fp32"},
        environment=TORCH,
        packages=ONNX_BUILDER,
        made_by=("onnxruntime-genai",),
        size=2.1,
        most_unexplained=0.01,
    ),
    "onnx-int4": Conversion(
        title="ONNX of 4 bits",
        job="to-onnxruntime",
        options={"precision": "int4"},
        environment=TORCH,
        packages=ONNX_BUILDER,
        made_by=("onnxruntime-genai",),
        size=0.6,
        most_unexplained=0.5,
    ),
    "ct2": Conversion(
        title="CTranslate2's format",
        job="to-ct2",
        environment=TORCH,
        packages=("ctranslate2", "ctranslate2.libs"),
        made_by=("ctranslate2",),
        size=1.05,
        most_unexplained=0.01,
    ),
    "ct2-int8": Conversion(
        title="CTranslate2's format in 8 bits",
        job="to-ct2",
        options={"quantisation": "int8"},
        environment=TORCH,
        packages=("ctranslate2", "ctranslate2.libs"),
        made_by=("ctranslate2",),
        size=0.6,
        most_unexplained=0.25,
    ),
}
