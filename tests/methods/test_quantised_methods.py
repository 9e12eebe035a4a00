"""The methods that quantise, at work and sabotaged: evidence must tell packed weights from plain ones."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import pytest

from methods.base.home import CACHE, private_folder
from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue import evidence
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.models import models
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.runner_process import Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.engines, pytest.mark.timeout(900)]
SPOILT = Path(__file__).with_name("spoilt_quantised_engine.py")
IN_LINEAR_LAYERS = 2 * (
    2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128
)  # the tiny model's weights but for its table and norms
MISSING = Unavailable("There is no environment torch yet.", "kasoku env create torch")
PROMPT = [[5, 9, 2, 14, 7, 3, 8, 1, 6, 4]]

WRITING = """
import sys
from pathlib import Path
import torch, transformers
from torchao.quantization import Int8WeightOnlyConfig
from transformers import BitsAndBytesConfig, TorchAoConfig
nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
int8, torchao = BitsAndBytesConfig(load_in_8bit=True), TorchAoConfig(Int8WeightOnlyConfig(version=2))
kinds = {"nf4": nf4, "int8": int8, "torchao": torchao}
for name, config in kinds.items():
    model = transformers.AutoModelForCausalLM.from_pretrained(
        sys.argv[1], dtype=torch.bfloat16, quantization_config=config, device_map="cpu"
    )
    model.save_pretrained(Path(sys.argv[2]) / name)
"""


class Run(Protocol):
    """Run a method of the catalogue on the tiny model, with changed options, or by another engine."""

    def __call__(
        self,
        method: str,
        engine: str = "transformers",
        folder: str | None = None,
        quantisation: str | None = None,
        **changed: str,
    ) -> Outcome: ...


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def tiny(assets: Path, torch_interpreter: Interpreter) -> Model:
    return models.prepare("synthetic:tiny-llama", assets, torch_interpreter)


@pytest.fixture(scope="module")
def run(
    catalogue: Catalogue,
    assets: Path,
    made_environment: MakeEnvironment,
    tiny: Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    compiled = private_folder(private_folder(assets / CACHE) / "inductor")

    @cache
    def made(
        method: str,
        engine: str = "transformers",
        folder: str | None = None,
        quantisation: str | None = None,
        **changed: str,
    ) -> Outcome:
        row = catalogue.methods[method]
        about = {"model_folder": folder or str(tiny.folder), "quantisation": quantisation}
        job = measure_job(engine, options={**row.options, **changed}, prompts=PROMPT, **about)
        interpreter = made_environment(row.environments["cpu"])
        return run_in(interpreter, job, tmp_path_factory.mktemp("run"), {"TORCHINDUCTOR_CACHE_DIR": str(compiled)})

    return made


def facts_of(outcome: Outcome) -> Mapping[str, Any]:
    assert outcome.status == 0, outcome.log
    found = outcome.one("evidence")["evidence"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("method", "held", "bits", "activations"),
    [
        ("torchao-int8", "Int8Tensor (float32, int8)", (8.1, 9.0), ["bfloat16"]),
        ("bitsandbytes-int8", "Int8Params (int8)", (8.1, 9.0), ["int8"]),
        ("bitsandbytes-nf4", "Params4bit (uint8)", (4.2, 5.0), ["bfloat16"]),
    ],
)
def test_a_method_that_quantises_is_in_effect_and_says_as_what(
    run: Run, catalogue: Catalogue, method: str, held: str, bits: tuple[float, float], activations: list[str]
) -> None:
    facts = facts_of(run(method))
    judgement = evidence.judge(catalogue.methods[method].must_show, facts)
    assert judgement.in_effect is True, judgement.reason
    assert facts["quantised_as"] == [held]
    assert bits[0] <= facts["weights_held"][held]["bits_per_weight"] <= bits[1]
    assert facts["activations"] == activations


@pytest.mark.parametrize("method", ["torchao-int8", "bitsandbytes-int8", "bitsandbytes-nf4"])
def test_a_token_reads_the_packed_weights_with_their_scales_and_no_more(run: Run, tiny: Model, method: str) -> None:
    facts, loaded = facts_of(run(method)), run(method).one("loaded")["weights_bytes"]
    layers = sum(entry["bytes"] for entry in facts["weights_held"].values())
    plain = tiny.weights_bytes
    assert isinstance(loaded, int)
    assert layers < loaded < plain
    others = plain - 2 * IN_LINEAR_LAYERS  # one table serves as embedding and output layer
    assert facts["token_reads"]["weights_bytes"] == pytest.approx(layers + others, rel=0.01)  # zeros that scale nothing


@pytest.mark.parametrize("method", ["torchao-int8", "bitsandbytes-int8", "bitsandbytes-nf4"])
@pytest.mark.parametrize(
    ("spoilt", "says"),
    [
        ("one_layer_plain", "1 linear layer was left as stored: those are read in full"),
        ("unpacked_at_load", "quantised layers hold their weights as nothing, not "),
    ],
)
def test_weights_that_are_not_packed_are_not_in_effect(
    run: Run, catalogue: Catalogue, method: str, spoilt: str, says: str
) -> None:
    facts = facts_of(run(method, str(SPOILT), spoilt=spoilt, compile="none"))  # nothing of it is the compiler's doing
    judgement = evidence.judge(catalogue.methods[method].must_show, facts)
    assert judgement.in_effect is False
    assert says.casefold() in judgement.reason.casefold()


def test_four_bits_where_eight_are_claimed_are_not_in_effect(run: Run, catalogue: Catalogue) -> None:
    facts = facts_of(run("bitsandbytes-nf4"))
    judgement = evidence.judge(catalogue.methods["bitsandbytes-int8"].must_show, facts)
    assert judgement.in_effect is False
    assert "Params4bit (uint8), not Int8Params" in judgement.reason


def test_a_cache_in_eight_bits_is_in_effect_and_a_plain_one_is_not(run: Run, catalogue: Catalogue) -> None:
    must_show = catalogue.methods["kv-fp8"].must_show
    facts = facts_of(run("kv-fp8"))
    judgement = evidence.judge(must_show, facts)
    assert judgement.in_effect is True, judgement.reason
    plain = facts_of(run("baseline"))
    [[layers, growth, _, _]] = facts["token_reads"]["cache"]
    [[plain_layers, plain_growth, _, _]] = plain["token_reads"]["cache"]
    assert (layers, 2 * growth) == (plain_layers, plain_growth)
    assert "The KV cache holds bfloat16, not float8" in evidence.judge(must_show, plain).reason


@pytest.fixture(scope="module")
def checkpoints(made_environment: MakeEnvironment, tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as the libraries themselves write it: `nf4`, `int8` and `torchao`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    command = [str(made_environment("torch-quant").python), "-I", "-c", WRITING, str(tiny.folder), str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert said.returncode == 0, said.stderr
    return folder


@pytest.mark.parametrize(
    ("name", "stored", "method", "wrong", "held"),
    [
        ("nf4", "bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-int8", "Params4bit (uint8)"),
        ("int8", "bitsandbytes", "bitsandbytes-int8", "bitsandbytes-nf4", "Int8Params (int8)"),
        ("torchao", "torchao", "torchao-int8", None, "Int8Tensor (float32, int8)"),
    ],
)
def test_a_checkpoint_that_is_quantised_is_run_as_it_is_stored(
    run: Run,
    catalogue: Catalogue,
    checkpoints: Path,
    tiny: Model,
    tmp_path: Path,
    name: str,
    stored: str,
    method: str,
    wrong: str | None,
    held: str,
) -> None:
    model = models.prepare(str(checkpoints / name), tmp_path, MISSING)
    assert (model.quantisation, model.parameters) == (stored, tiny.parameters), "in true units"
    outcome = run(method, folder=str(model.folder), quantisation=stored)
    facts = facts_of(outcome)
    assert (facts["quantised_as"], facts["plain_layers"]) == ([held], 0)
    assert evidence.judge(catalogue.methods[method].must_show, facts).in_effect is True
    resolved = outcome.one("loaded")["resolved"]
    assert isinstance(resolved, dict)
    assert resolved["quantisation"] == {"method": stored, "dequantised": False}
    if wrong is not None:
        assert evidence.judge(catalogue.methods[wrong].must_show, facts).in_effect is False


def test_a_model_that_another_library_has_quantised_is_refused(run: Run, checkpoints: Path) -> None:
    error = run("torchao-int8", folder=str(checkpoints / "nf4"), quantisation="bitsandbytes").one("error")
    assert error["kind"] == "unsupported"
    assert "The model is quantised already (bitsandbytes)" in str(error["message"])


@pytest.mark.parametrize(
    ("method", "says"),
    [
        ("torchao-int4", "torchao's int4 kernels are made for NVIDIA GPUs, and here is none."),
        ("torchao-fp8", "Only GPUs of compute capability 8.9 and higher (Ada, Hopper) multiply float8."),
    ],
)
def test_what_needs_a_gpu_is_said_before_anything_is_loaded(run: Run, method: str, says: str) -> None:
    outcome = run(method)
    assert outcome.status == 1
    error = outcome.one("error")
    assert (error["kind"], error["message"]) == ("unsupported", says)


def test_an_environment_without_the_package_is_said(
    catalogue: Catalogue, torch_interpreter: Interpreter, tiny: Model, tmp_path: Path
) -> None:
    job = measure_job(
        "transformers", options=catalogue.methods["bitsandbytes-nf4"].options, model_folder=str(tiny.folder)
    )
    error = run_in(torch_interpreter, job, tmp_path).one("error")
    assert error["kind"] == "unsupported"
    assert "cannot quantise as bitsandbytes-nf4: No module named 'bitsandbytes'" in str(error["message"])
