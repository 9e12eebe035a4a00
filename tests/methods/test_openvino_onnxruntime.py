"""The engines of OpenVINO and ONNX Runtime on the real model, converted for real: ids, times, evidence, sabotage."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.environments import environments
from methods.models.converted import ConversionError, Converting, Reader
from methods.models.models import Model
from tests.conftest import MakeEnvironment, told
from tests.methods.engine_in_process import in_the_engine
from tests.methods.runner_process import Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
GREEDY = {"max_new_tokens": 4, "stop_token_ids": [], "temperature": 0.0, "top_p": 1.0, "top_k": 0}
ENGINES = ("openvino", "onnxruntime")

Runs = Callable[..., Outcome]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def converting(made_environment: MakeEnvironment, assets: Path) -> Converting:
    """Conversions are kept among the assets, as environments are."""
    made_environment("openvino-export")
    return Converting(
        home=assets,
        dtype="bfloat16",
        device="cpu",
        gpu_uuids=(),
        threads=1,
        variables={"OMP_NUM_THREADS": "1"},
        interpreter_of=lambda name: environments.resolve(name, assets, assets / "no-config"),
        report=told,
    )


@pytest.fixture(scope="module")
def folder_of(
    catalogue: Catalogue, converting: Converting, made_environment: MakeEnvironment, default_model: Model
) -> Callable[[str], Path]:
    """The default model in the form that a method reads."""

    @cache
    def folder(name: str) -> Path:
        method = catalogue.methods[name]
        interpreter = made_environment(method.environments["cpu"])
        reader = Reader(engine=method.engine, options=method.options, interpreter=interpreter)
        return converting.converted(default_model, str(method.conversion), reader)

    return folder


@pytest.fixture(scope="module")
def runs(
    catalogue: Catalogue,
    folder_of: Callable[[str], Path],
    made_environment: MakeEnvironment,
    default_model: Model,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    """`runs(method)` is a block of it; `of` takes the conversion of another method, the rest changes the job."""

    @cache
    def outcome(name: str, of: str, changes: str) -> Outcome:
        method = catalogue.methods[name]
        job = measure_job(method.engine, model_folder=str(default_model.folder), converted_folder=str(folder_of(of)))
        job |= {"threads": 1, "greedy": True, "options": dict(method.options), **json.loads(changes)}
        return run_in(made_environment(method.environments["cpu"]), job, tmp_path_factory.mktemp("run"))

    def run(name: str, of: str | None = None, **changes: object) -> Outcome:
        done = outcome(name, of or name, json.dumps(changes))
        assert done.status == 0, done.log
        return done

    return run


def facts_of(outcome: Outcome) -> Mapping[str, object]:
    found = outcome.one("evidence")["evidence"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ["openvino", "openvino-int8", "onnxruntime", "onnxruntime-int4"])
def test_as_the_catalogue_has_it_it_is_in_effect(runs: Runs, catalogue: Catalogue, name: str) -> None:
    judgement = evidence.judge(catalogue.methods[name].must_show, facts_of(runs(name)))

    assert judgement.in_effect is True, judgement.reason
    assert "ran in the profiled step" in judgement.reason


@pytest.mark.parametrize(
    ("name", "of", "says"),
    [
        ("openvino-int8", "openvino", r"Most weights were (bf16|f16|f32), not u8 or i8"),
        ("openvino", "openvino-int8", r"Most weights were u8, not bf16 or f16 or f32"),
        ("onnxruntime-int4", "onnxruntime", r"Most weights were float32, not int4"),
        ("onnxruntime", "onnxruntime-int4", r"Most weights were int4, not float32"),
    ],
)
def test_weights_of_another_kind_are_seen(runs: Runs, catalogue: Catalogue, name: str, of: str, says: str) -> None:
    judgement = evidence.judge(catalogue.methods[name].must_show, facts_of(runs(name, of)))

    assert judgement.in_effect is False
    assert re.search(says, judgement.reason), judgement.reason


def test_a_type_to_compute_in_that_was_not_asked_for_is_said(runs: Runs) -> None:
    """Without a hint, OpenVINO computes in bfloat16 where the CPU has that, whatever the session asked for."""
    asked = facts_of(runs("openvino", dtype="float32"))
    assert (asked["dtype"], asked["incomparable"]) == ("float32", [])

    unasked = runs("openvino", dtype="float32", options={"properties": {"INFERENCE_PRECISION_HINT": None}})
    resolved = unasked.one("loaded")["resolved"]
    assert isinstance(resolved, dict)
    if "BF16" in resolved["processor_computes_in"]:
        assert facts_of(unasked)["dtype"] == "bfloat16"
        assert facts_of(unasked)["incomparable"] == ["bfloat16 instead of float32"]


@pytest.mark.parametrize("name", ENGINES)
def test_its_greedy_ids_are_those_of_transformers(
    runs: Runs, name: str, torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    other = run_in(torch_interpreter, measure_job("transformers", model_folder=str(default_model.folder)), tmp_path)
    outcome = runs(name)
    greedy = facts_of(outcome)["greedy"]

    assert outcome.tokens(1)[1] == other.tokens(1)[1]
    assert isinstance(greedy, dict)
    assert greedy["ids"] == other.tokens(1)[1]
    assert all(margin > 0.5 for margin in greedy["margins"])  # so that no rounding decides


@pytest.mark.parametrize("name", ENGINES)
def test_every_id_has_a_time_of_its_own_and_threads_are_the_jobs(runs: Runs, name: str) -> None:
    outcome = runs(name)

    for request in (1, 2):
        times, ids = outcome.tokens(request)
        assert len(ids) == len(set(times)) == 4
    assert [end["finish"] for end in outcome.of("request_end")] == ["length"] * 3
    assert outcome.one("loaded")["threads"] == 1


@pytest.mark.parametrize("name", ENGINES)
def test_a_stop_token_ends_the_response(runs: Runs, name: str) -> None:
    second = runs(name).tokens(1)[1][1]
    outcome = runs(name, sampling={**GREEDY, "stop_token_ids": [second]})

    assert [end["output_tokens"] for end in outcome.of("request_end")] == [2, 2, 2]
    assert [end["finish"] for end in outcome.of("request_end")] == ["eos"] * 3


@pytest.mark.parametrize("name", ENGINES)
def test_a_seed_decides_what_is_drawn(runs: Runs, name: str) -> None:
    sampling = {**GREEDY, "max_new_tokens": 8, "temperature": 1.0, "top_p": 0.95}
    requests = [{"request": number, "prompt_index": 0, "seed": seed} for number, seed in enumerate((5, 5, 6))]
    outcome = runs(name, sampling=sampling, requests=requests)
    first, again, other = (outcome.tokens(number)[1] for number in range(3))

    assert first == again != other


@pytest.mark.parametrize("name", ENGINES)
def test_forced_ids_score_alike_as_a_prompt_and_one_by_one(
    folder_of: Callable[[str], Path], catalogue: Catalogue, made_environment: MakeEnvironment, name: str
) -> None:
    """In float32, in which both engines compute here, so that nothing but the path differs."""
    job = measure_job(name, converted_folder=str(folder_of(name)), dtype="float32", threads=1)
    ids = [504, 3575, 282, 4649, 314, 7042, 30, 198, 198, 504, 2988, 314]
    code = f"""
scores = [engine.score_prefill({ids}, 7), engine.score_decode({ids}, 7)]
print(json.dumps([[each.nll, each.top1, list(each.log_probs.shape), str(each.log_probs.dtype)] for each in scores]))
"""
    said = in_the_engine(made_environment(catalogue.methods[name].environments["cpu"]), job, code)
    assert isinstance(said, list)
    prefill, decode = said

    assert prefill[0] == pytest.approx(decode[0], abs=0.01)
    assert prefill[1:] == decode[1:]
    assert prefill[2:] == [[7, 49152], "float32"]
    assert sum(prefill[1][place] == ids[5 + place] for place in range(7)) >= 6  # most are what it would say itself


@pytest.mark.parametrize("name", ENGINES)
def test_a_folder_that_is_no_model_of_its_is_a_sentence(
    name: str, catalogue: Catalogue, made_environment: MakeEnvironment, tmp_path: Path
) -> None:
    interpreter = made_environment(catalogue.methods[name].environments["cpu"])
    outcome = run_in(interpreter, measure_job(name, converted_folder=str(tmp_path)), tmp_path)

    assert outcome.status == 1
    assert outcome.one("error")["kind"] == "unsupported"
    assert str(tmp_path) in str(outcome.one("error")["message"])


@pytest.mark.parametrize("name", ENGINES)
def test_a_model_that_the_converter_does_not_know_is_a_sentence(
    name: str, catalogue: Catalogue, converting: Converting, made_environment: MakeEnvironment, unknown_model: Model
) -> None:
    method = catalogue.methods[name]
    interpreter = made_environment(method.environments["cpu"])
    reader = Reader(engine=method.engine, options={}, interpreter=interpreter)

    with pytest.raises(ConversionError, match="architecture") as raised:
        converting.converted(unknown_model, str(method.conversion), reader)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def unknown_model(default_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model whose architecture transformers knows and neither converter does: its weights are never read."""
    folder = tmp_path_factory.mktemp("unknown")
    (folder / "config.json").write_text(json.dumps({"model_type": "ctrl", "architectures": ["CTRLLMHeadModel"]}))
    return replace(default_model, name="ctrl", folder=folder, weights_digest="ctrl")
