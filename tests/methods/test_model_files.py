"""Which of a folder's files are its model: nearly-models refused each in its own words, strays left out, packed weights
counted, code only where it is trusted."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.quantised import lacking_for
from methods.models import models, prompts
from methods.models.models import ModelError
from methods.models.quantisation import Quantisation, parameters, quantisation_in, said_by
from methods.models.safetensors_folder import Tensor, weight_files
from tests.made_model import made_model

MISSING = Unavailable("There is no environment torch yet.", "kasoku env create torch")
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 8, "rope_theta": 1e4}
CONFIG |= {"torch_dtype": "float32"}
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{7:064}\nsize 111392\n"


def write_weights(path: Path, **tensors: tuple[str, list[int], int]) -> None:
    """A safetensors file of zeros: dtype, shape and bytes by name."""
    header, end = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a whole model, as far as files tell."""
    made = tmp_path / "given"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    write_weights(made / "model.safetensors", a=("F32", [4, 2], 32))
    return made


def configure(folder: Path, **more: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | more))


def refusal(folder: Path, home: Path, **more: bool) -> str:
    with pytest.raises(ModelError) as caught:
        models.check(str(folder), home, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def be_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def be_gguf(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "x.gguf")


def be_pickled(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def point_at_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_text(POINTER)


def point_at_everything(folder: Path) -> None:
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).write_text(POINTER)


def be_of_mlx(folder: Path) -> None:
    configure(folder, quantization={"group_size": 64, "bits": 4})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (be_an_adapter, "holds an adapter"),
        (be_gguf, "holds GGUF"),
        (be_pickled, "holds only pickled weights"),
        (point_at_weights, "model.safetensors is a pointer of Git LFS, not the file itself; run `git lfs pull`"),
        (point_at_everything, "config.json (and 2 more) is a pointer of Git LFS"),
        (be_of_mlx, "quantised for MLX"),
    ],
)
def test_what_is_nearly_a_model_is_refused_in_its_own_words(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    spoil(folder)
    assert said in refusal(folder, tmp_path)


def test_a_tokeniser_for_mistrals_library_alone_is_named(folder: Path) -> None:
    (folder / "tekken.json").write_text("{}")
    model = made_model(folder=folder, vocab_size=8)
    with pytest.raises(prompts.PromptError, match=r"tekken\.json alone.*--prompt-tokens"):
        prompts.make(model, "some text")
    assert len(prompts.make(model, tokens=5).ids) == 5


def test_a_second_copy_of_the_weights_is_not_part_of_the_model(folder: Path, tmp_path: Path) -> None:
    plain = models.prepare(str(folder), tmp_path / "first", MISSING)
    assert plain.folder == folder
    write_weights(folder / "consolidated.safetensors", a=("F32", [4, 2], 32))
    (folder / "._model.safetensors").write_bytes(b"\0\5\x16\7 what macOS leaves beside a file")
    (folder / "adapter_config.json").write_text("{}")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "consolidated.safetensors"}}')
    for home in (tmp_path / "first", tmp_path / "second"):  # and not only where the model is a new one
        model = models.prepare(str(folder), home, MISSING)
        assert [path.name for path in model.folder.rglob("*.safetensors")] == ["model.safetensors"]
        assert not (model.folder / "adapter_config.json").exists()
        assert not (model.folder / "model.safetensors.index.json").exists()
        assert (model.weights_digest, model.parameters) == (plain.weights_digest, 8)
        assert model.weights_bytes == sum(32 for _ in weight_files(model.folder))


def test_a_file_that_is_added_or_a_config_that_changes_is_noticed(folder: Path, tmp_path: Path) -> None:
    models.prepare(str(folder), tmp_path, MISSING)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert models.check(str(folder), tmp_path).ready is None
    write_weights(folder / "consolidated.safetensors", a=("F32", [4, 2], 32))
    linked = models.prepare(str(folder), tmp_path, MISSING)
    assert models.check(str(folder), tmp_path).ready == linked
    configure(folder, max_position_embeddings=77)
    assert models.check(str(folder), tmp_path).ready is None
    assert models.prepare(str(folder), tmp_path, MISSING).context_length == 77


def of_torchao(kind: str) -> Mapping[str, object]:
    """As torchao writes its config, by the name of its class."""
    config = {"_data": {"granularity": {"_type": "PerRow"}}, "_type": kind, "_version": 2}
    return {"quantization_config": {"quant_method": "torchao", "quant_type": {"default": config}}}


@pytest.mark.parametrize(
    ("config", "quantised"),
    [
        ({}, None),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, Quantisation("gptq", 4)),
        ({"quantization_config": {"quant_method": "awq", "w_bit": 4}}, Quantisation("awq", 4)),
        ({"quantization_config": {"load_in_4bit": True, "load_in_8bit": False}}, Quantisation("bitsandbytes", 4)),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            Quantisation("bitsandbytes", 8),
        ),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, Quantisation("fp8", 8)),
        ({"text_config": {"quantization_config": {"quant_method": "mxfp4"}}}, Quantisation("mxfp4", 4)),
        ({"quantization": {"group_size": 64, "bits": 4}}, Quantisation("mlx", 4)),
        (of_torchao("Int8WeightOnlyConfig"), Quantisation("torchao", 8)),
        (of_torchao("Float8DynamicActivationFloat8WeightConfig"), Quantisation("torchao", 8)),
        (of_torchao("Int8DynamicActivationInt4WeightConfig"), Quantisation("torchao", None)),
        (of_torchao("Int4WeightOnlyConfig"), Quantisation("torchao", None)),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
                }
            },
            Quantisation("compressed-tensors", 4),
        ),
    ],
)
def test_the_config_says_how_the_weights_are_quantised(
    config: Mapping[str, object], quantised: Quantisation | None
) -> None:
    assert said_by(config) == quantised


def test_modelopt_says_it_in_a_file_of_its_own(folder: Path) -> None:
    assert quantisation_in(folder) is None
    (folder / "hf_quant_config.json").write_text("{}")
    assert quantisation_in(folder) == Quantisation("modelopt", None)


@pytest.mark.parametrize(
    ("quantised", "tensors", "count"),
    [
        (None, [("a.weight", "F32", (3, 5)), ("a.position_ids", "I64", (1, 4))], 19),
        (
            Quantisation("gptq", 4),
            [
                ("a.qweight", "I32", (16, 8)),
                ("a.qzeros", "I32", (1, 1)),
                ("a.scales", "F16", (1, 8)),
                ("a.g_idx", "I32", (128,)),
                ("norm.weight", "F16", (8,)),
            ],
            16 * 8 * 8 + 8,
        ),
        (Quantisation("gptq", 3), [("a.qweight", "I32", (3, 8))], 32 * 8),
        (
            Quantisation("bitsandbytes", 4),
            [
                ("a.weight", "U8", (32, 1)),
                ("a.weight.absmax", "F32", (1,)),
                ("a.weight.quant_state.bitsandbytes__nf4", "U8", (90,)),
            ],
            64,
        ),
        (
            Quantisation("bitsandbytes", 8),
            [("a.weight", "I8", (8, 8)), ("a.SCB", "F32", (8,)), ("a.weight_format", "U8", ())],
            64,
        ),
        (Quantisation("fp8", 8), [("a.weight", "F8_E4M3", (8, 8)), ("a.weight_scale_inv", "F32", (1, 1))], 64),
        (
            Quantisation("compressed-tensors", 4),
            [("a.weight_packed", "I32", (8, 1)), ("a.weight_scale", "BF16", (8, 1)), ("a.weight_shape", "I64", (2,))],
            64,
        ),
        (Quantisation("mxfp4", 4), [("a_blocks", "U8", (2, 16)), ("a_scales", "U8", (2, 1))], 64),
        (
            Quantisation("torchao", 8),
            [
                ("a._weight_qdata", "I8", (8, 8)),
                ("a._weight_scale", "F32", (8, 1)),
                ("a._weight_zero_point", "I8", (8, 1)),
            ],
            64,
        ),
        (Quantisation("aqlm", None), [("a.codes", "I16", (8, 8))], None),
        (Quantisation("gptq", None), [("a.qweight", "I32", (8, 8))], None),
    ],
)
def test_packed_weights_are_counted_one_by_one_or_not_at_all(
    quantised: Quantisation | None, tensors: list[tuple[str, str, tuple[int, ...]]], count: int | None
) -> None:
    assert parameters([Tensor(*tensor, 0) for tensor in tensors], quantised) == count


def test_a_quantised_folder_is_known_before_it_is_run(folder: Path, tmp_path: Path) -> None:
    configure(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    write_weights(folder / "model.safetensors", **{"a.qweight": ("I32", [2, 2], 16), "a.scales": ("F16", [2], 4)})
    model = models.prepare(str(folder), tmp_path, MISSING)
    assert (model.quantisation, model.parameters, model.weights_bytes) == ("gptq", 32, 20)
    manifest = tmp_path / "models" / next(path.name for path in (tmp_path / "models").iterdir() if path.is_dir())
    written = json.loads((manifest / "kasoku-model.json").read_text())
    del written["model"]["quantisation"], written["model"]["code_digest"]
    written["model"]["parameters"] = 6  # as a version that knew nothing of packing counted
    (manifest / "kasoku-model.json").write_text(json.dumps(written))
    assert models.prepare(str(folder), tmp_path, MISSING) == model


@pytest.mark.parametrize(
    ("method", "versions", "on_gpu", "said"),
    [
        ("gptq", {"transformers": "5.24.0"}, False, "(GPTQ), and the environment torch lacks optimum and gptqmodel;"),
        ("gptq", {"transformers": "4.40.0", "optimum": "1", "auto-gptq": "1"}, True, None),
        ("gptq", {"transformers": "5.24.0", "optimum": "1", "auto-gptq": "1"}, True, "lacks gptqmodel;"),
        ("awq", {"transformers": "5.24.0", "accelerate": "1"}, True, "lacks gptqmodel"),
        ("bitsandbytes", {"transformers": "5.24.0", "accelerate": "1"}, False, "lacks bitsandbytes"),
        ("fp8", {"transformers": "5.24.0", "accelerate": "1"}, False, None),
        (
            "fp8",
            {"transformers": "4.35.2", "accelerate": "1"},
            True,
            "reads since 4.49; the environment torch has 4.35.2",
        ),
        ("compressed-tensors", {"transformers": "5.24.0"}, False, "lacks compressed-tensors"),
        ("eetq", {"transformers": "5.24.0", "accelerate": "1"}, False, "on a GPU only"),
        ("gptq", {}, False, None),
        ("gptq", {"transformers": "a fork"}, False, None),
        ("of the future", {"transformers": "5.24.0"}, False, None),
    ],
)
def test_what_an_environment_lacks_for_a_quantised_model_is_said(
    method: str, versions: Mapping[str, str], on_gpu: bool, said: str | None
) -> None:
    found = Interpreter("torch", Path("/python"), (), {}, "configured", versions)
    lack = lacking_for(method, "transformers", {}, found, on_gpu)
    assert (lack is None) if said is None else (lack is not None and said in lack.reason)
    assert lacking_for(method, "/an/engine.py", {}, found, on_gpu) is None


def test_vllm_brings_its_own_kernels_but_those_of_bitsandbytes() -> None:
    found = Interpreter("vllm", Path("/python"), (), {}, "configured", {"vllm": "0.25.0"})
    lack = lacking_for("bitsandbytes", "vllm", {}, found, on_gpu=True)
    assert lack is not None
    assert "lacks bitsandbytes" in lack.reason
    assert lacking_for("gptq", "vllm", {}, found, on_gpu=True) is None


@pytest.mark.parametrize(
    ("engine", "options", "stored", "said"),
    [
        ("transformers", {"quantise": "torchao-int8"}, "fp8", "quantised already (FP8), and this method quantises"),
        ("transformers", {"quantise": "bitsandbytes-nf4"}, "bitsandbytes", None),
        ("vllm", {"engine_arguments": {"quantization": "fp8"}}, "gptq", "quantised already (GPTQ)"),
        ("sglang", {"engine_arguments": {"quantization": "fp8"}}, "gptq", "quantised already (GPTQ)"),
        ("vllm", {"engine_arguments": {"quantization": "fp8"}}, "fp8", None),
        ("vllm", {"engine_arguments": {"enforce_eager": True}}, "gptq", None),
        ("vllm", {}, "bitsandbytes", "lacks vllm-bnb-plugin"),
    ],
)
def test_a_method_that_quantises_takes_no_weights_that_another_has_quantised(
    engine: str, options: Mapping[str, object], stored: str, said: str | None
) -> None:
    versions = {"vllm": "0.32.0", "transformers": "5.24.0", "accelerate": "1", "bitsandbytes": "0.50.2"}
    found = Interpreter("any", Path("/python"), (), {}, "configured", versions)
    lack = lacking_for(stored, engine, options, found, on_gpu=True)
    assert (lack is None) if said is None else (lack is not None and said in lack.reason)


OWN_CODE = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.XForCausalLM"}


def test_code_of_a_models_own_is_part_of_what_is_prepared(folder: Path, tmp_path: Path) -> None:
    configure(folder, auto_map=OWN_CODE)
    (folder / "configuration_x.py").write_text("a = 1\n")
    assert "lacks modeling_x.py, which holds the model's own code" in refusal(folder, tmp_path, trust_remote_code=True)
    (folder / "modeling_x.py").write_text("b = 1\n")
    model = models.prepare(str(folder), tmp_path, MISSING, trust_remote_code=True)
    assert model.code_digest
    (folder / "modeling_x.py").write_text("b = 22\n")
    assert models.check(str(folder), tmp_path).ready is None
    again = models.prepare(str(folder), tmp_path, MISSING, trust_remote_code=True)
    assert again.code_digest != model.code_digest
    assert again.weights_digest == model.weights_digest


def test_files_of_python_that_no_model_names_are_not_its_code(folder: Path, tmp_path: Path) -> None:
    (folder / "convert.py").write_text("")
    assert models.prepare(str(folder), tmp_path, MISSING).code_digest is None
