"""The jobs that make OpenVINO's form of a model: optimum-intel exports it, and NNCF rounds what was exported.

to-openvino        {"source": a model's folder, "folder": made here, "dtype": "bfloat16"}
compress-openvino  {"source": a folder with openvino_model.xml, "folder": made here, "bits": 8 | 4}

The export holds its cache as a state and has no tokeniser. Its weights are float32 where the session's are, otherwise
float16: optimum-intel writes no bfloat16. Weights of 8 bits have a scale and a zero point for each row, those of 4 bits
for each group of 128, or of fewer where 128 does not divide the row; with 4 bits, embeddings and head have 8. It takes
no text to calibrate with.

Result: {"weights": {element type: bytes}, "versions": {distribution: version}}.
"""

from __future__ import annotations

import os
from pathlib import Path

import kasoku_describe
from kasoku_converted import architecture_of
from kasoku_failure import UnsupportedError
from kasoku_openvino_telemetry import without_telemetry

FILE = "openvino_model.xml"
GROUP = 128
UNKNOWN = ("custom or unsupported architecture", "not officially supported", "only supports the tasks")


def run(job: dict, wire: object) -> None:
    without_telemetry()
    if job["job"] == "to-openvino":
        export(job, wire)
    else:
        compress(job, wire)
    names = ("optimum-intel", "optimum", "transformers", "torch", "openvino", "nncf")
    wire.result(
        {
            "weights": weights_of(Path(job["folder"]) / FILE),
            "versions": {name: kasoku_describe.version_of(name) for name in names},
        }
    )


def export(job: dict, wire: object) -> None:
    """Safetensors to OpenVINO's form."""
    wire.progress("to-openvino", "importing optimum-intel")
    from optimum.exporters.openvino import main_export
    from optimum.intel.openvino.configuration import OVConfig

    wire.progress("to-openvino", "tracing the model and writing %s" % FILE)
    try:
        main_export(
            job["source"],
            job["folder"],
            task="text-generation-with-past",
            # a dtype that is named keeps optimum from rounding large models to 8 bits by itself
            ov_config=OVConfig(dtype="fp32" if job["dtype"] == "float32" else "fp16"),
            library_name="transformers",
            local_files_only=True,
            convert_tokenizer=False,
        )
    except ValueError as error:
        if any(words in str(error) for words in UNKNOWN):
            raise UnsupportedError(
                "optimum-intel does not export the architecture %s to OpenVINO." % architecture_of(job["source"])
            ) from error
        raise
    for path in Path(job["folder"]).iterdir():
        if os.path.isfile(path) and path.suffix not in (".xml", ".bin"):
            path.unlink()  # the tokeniser and settings that the model has already


def compress(job: dict, wire: object) -> None:
    """The same model with weights of fewer bits."""
    wire.progress("compress-openvino", "importing NNCF")
    import nncf
    import openvino

    wire.progress("compress-openvino", "rounding the weights to %d bits" % job["bits"])
    model = openvino.Core().read_model(str(Path(job["source"]) / FILE))
    if job["bits"] == 8:
        how = {"mode": nncf.CompressWeightsMode.INT8_ASYM}
    else:
        fitting = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
        four = nncf.CompressWeightsMode.INT4_ASYM
        how = {"mode": four, "group_size": GROUP, "ratio": 1.0, "advanced_parameters": fitting}
    openvino.save_model(nncf.compress_weights(model, **how), str(Path(job["folder"]) / FILE), compress_to_fp16=False)


def weights_of(file: Path) -> dict:
    """Bytes of the constants by element type, the most first: {"u8": 134480000, "f16": 980000}."""
    import openvino

    sizes: dict = {}
    for op in openvino.Core().read_model(str(file)).get_ops():
        if op.get_type_name() == "Constant":
            kind = op.get_element_type().get_type_name()
            sizes[kind] = sizes.get(kind, 0) + op.get_byte_size()
    return dict(sorted(sizes.items(), key=lambda each: -each[1]))
