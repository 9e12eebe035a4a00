"""What transformers loads is what the files hold: anything that they lack is refused before a request is timed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from tests.methods.runner_process import RUNNER

pytestmark = [pytest.mark.model, pytest.mark.engines]

# Tiny models, each saved and spoilt, then loaded by the engine's own function; {name: [refusal, facts]}.
LOADING = """
import json, sys
from pathlib import Path
import torch, transformers as t
from safetensors.torch import load_file, save_file
sys.path.insert(0, sys.argv[2])
import kasoku_transformers_loading as loading
root = Path(sys.argv[1])
shape = dict(vocab_size=64, hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=2)
llama = t.LlamaConfig(**shape, num_key_value_heads=2, tie_word_embeddings=True, max_position_embeddings=64)
bart = t.BartConfig(vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                    decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_position_embeddings=64)
def saved(name, model):
    model.save_pretrained(root / name, safe_serialization=True)
def spoilt(name, change, **config):
    saved(name, t.LlamaForCausalLM(llama))
    path = root / name / "model.safetensors"
    save_file({n: x.contiguous() for n, x in change(load_file(path)).items()}, path, {"format": "pt"})
    path = path.with_name("config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
spoilt("whole", lambda held: held)
spoilt("layerless", lambda held: {n: x for n, x in held.items() if ".layers.1." not in n})
spoilt("prefixed", lambda held: {"inner.language." + n: x for n, x in held.items()})
spoilt("untied", lambda held: held, tie_word_embeddings=False)
spoilt("wide", lambda held: held, vocab_size=80)
spoilt("shallow", lambda held: held, num_hidden_layers=1)
spoilt("packed", lambda held: held)
def in_eight_bits(held):
    scales = {n.replace("weight", "weight_scale_inv"): torch.ones(1, 1) for n in held if "proj" in n}
    return {n: x.to(torch.float8_e4m3fn) if "proj" in n else x for n, x in held.items()} | scales
fp8 = dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[32, 32])
spoilt("eight", in_eight_bits, quantization_config=fp8)
spoilt("four", lambda held: held, quantization_config=dict(quant_method="gptq", bits=4))
untied = t.LlamaConfig(**{**llama.to_dict(), "tie_word_embeddings": False})
spoilt("coded", lambda held: held, model_type="of-its-own", auto_map={"AutoConfig": "own.Config"})
saved("classifier", t.LlamaForSequenceClassification(untied))
saved("bert", t.BertModel(t.BertConfig(**shape, max_position_embeddings=64, is_decoder=True)))
saved("bart", t.BartModel(bart))
t5 = t.T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
saved("t5", t.T5ForConditionalGeneration(t5))
arguments = {"local_files_only": True, "trust_remote_code": False}
outcomes = {}
for folder in sorted(root.iterdir()):
    kind = {"packed": "modelopt", "eight": "fp8", "four": "gptq"}.get(folder.name)
    try:
        outcomes[folder.name] = [None, loading.loaded(t, str(folder), arguments, kind)[1]]
    except loading.UnsupportedError as error:
        outcomes[folder.name] = [str(error), None]
print(json.dumps(outcomes))
"""


def outcomes(interpreter: Interpreter, folder: Path) -> Mapping[str, list[object]]:
    models = folder / "models"
    models.mkdir()
    command = [str(interpreter.python), "-I", "-c", LOADING, str(models), str(RUNNER)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert said.returncode == 0, said.stderr
    found: dict[str, list[object]] = json.loads(said.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def loaded(torch_interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, list[object]]:
    return outcomes(torch_interpreter, tmp_path_factory.mktemp("loaded"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "layerless",
            "9 tensors of the model are not in its files and would be drawn at random: model.layers.1.input_",
        ),
        ("prefixed", "21 tensors of the model are not in its files"),
        ("untied", "1 tensor of the model is not in its files and would be drawn at random: lm_head.weight."),
        ("classifier", "1 tensor of the model is not in its files and would be drawn at random: lm_head.weight."),
        ("bert", "of the model are not in its files and would be drawn at random: cls."),
        ("bart", "2 tensors of the model are not in its files and would be drawn at random: lm_head.weight"),
        ("wide", "of another shape than its config.json says: "),
        ("packed", "The model is quantised (modelopt), which transformers"),
        ("coded", "The model comes with Python code of its own, which is run only with --trust-remote-code."),
        ("four", "The model is quantised (gptq), which this environment cannot load: "),
        ("t5", "has no language model of type 't5'"),
    ],
)
def test_what_the_files_lack_is_refused_with_its_name(loaded: Mapping[str, list[object]], name: str, said: str) -> None:
    refusal, _ = loaded[name]
    assert said in str(refusal)
    assert "\n" not in str(refusal)


def test_what_is_whole_is_loaded_and_what_is_left_over_is_named(loaded: Mapping[str, list[object]]) -> None:
    assert loaded["whole"] == [None, {"unused_weights": None, "quantisation": None}]
    first = "model.layers.1.input_layernorm.weight"
    assert loaded["shallow"] == [None, {"unused_weights": {"tensors": 9, "such_as": first}, "quantisation": None}]


def test_weights_that_are_unpacked_are_said_to_be(loaded: Mapping[str, list[object]]) -> None:
    assert loaded["eight"] == [None, {"unused_weights": None, "quantisation": {"method": "fp8", "dequantised": True}}]
