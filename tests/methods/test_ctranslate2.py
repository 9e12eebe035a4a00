"""The CTranslate2 engine on the real model: its conversions, ids, sampling, scores, evidence and sabotage."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue.catalogue import load_catalogue
from methods.models.converted import MANIFEST, ConversionError, Converting, Reader
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.engine_in_process import in_the_engine
from tests.methods.runner_process import Outcome, judged, measure_job, run_in, shown

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
METHODS = {"ctranslate2": "float32", "ctranslate2-int8": "int8"}  # and what a CPU has the weights in
PROMPT = [504, 3575, 282, 4649, 314]

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def interpreter(made_environment: MakeEnvironment) -> Interpreter:
    return made_environment("ctranslate2")


@pytest.fixture(scope="module")
def forms(
    converting: Converting, interpreter: Interpreter, default_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The default model in each form, made and checked for real, kept among the assets."""
    catalogue = load_catalogue(tmp_path_factory.mktemp("config"))
    rows = {name: catalogue.methods[name] for name in METHODS}
    readers = {
        name: Reader(engine=row.engine, options=row.options, interpreter=interpreter) for name, row in rows.items()
    }
    return {name: converting.converted(default_model, str(row.conversion), readers[name]) for name, row in rows.items()}


@pytest.fixture(scope="module")
def run(
    interpreter: Interpreter, default_model: Model, forms: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """A method on its form, each combination once."""
    catalogue = load_catalogue(tmp_path_factory.mktemp("config"))

    @cache
    def ran(method: str, folder: Path, changes: str) -> Outcome:
        options = catalogue.methods[method].options
        job = measure_job("ctranslate2", options=options, model_folder=str(default_model.folder), prompts=[PROMPT])
        job |= {"converted_folder": str(folder), "greedy": True, **json.loads(changes)}
        return run_in(interpreter, job, tmp_path_factory.mktemp("run"))

    def run_once(method: str, folder: Path | None = None, **changes: object) -> Outcome:
        return ran(method, folder or forms[method], json.dumps(changes))

    return run_once


@pytest.mark.parametrize("method", METHODS)
def test_each_method_generates_and_is_in_effect(
    run: Run, forms: Mapping[str, Path], method: str, tmp_path: Path
) -> None:
    outcome = run(method)

    times, ids = outcome.tokens(1)
    assert len(ids) == 4
    assert times == sorted(set(times))
    assert [end["finish"] for end in outcome.of("request_end")] == ["length"] * 3
    judgement = judged(method, outcome, tmp_path)
    assert judgement.in_effect is True, judgement.reason
    assert judgement.reason.startswith(f"Most weights were {METHODS[method]}")
    size = (forms[method] / "model.bin").stat().st_size
    assert outcome.one("loaded")["weights_bytes"] == {"ctranslate2": 2 * size, "ctranslate2-int8": size}[method]
    assert outcome.one("loaded")["dtype"] == "float32"
    chosen = shown(outcome)["chosen"]
    assert chosen["SGEMM backend" if method == "ctranslate2" else "GEMM_S8 backend"]  # type: ignore[index]
    greedy = shown(outcome)["greedy"]
    assert greedy["ids"] == ids  # type: ignore[index]
    assert all(margin > 0 for margin in greedy["margins"])  # type: ignore[index]


def test_floats_that_are_loaded_are_not_eight_bits(run: Run, forms: Mapping[str, Path], tmp_path: Path) -> None:
    outcome = run("ctranslate2", forms["ctranslate2"])
    judgement = judged("ctranslate2-int8", outcome, tmp_path)

    assert judgement.in_effect is False
    assert judgement.reason.startswith("Most weights were float32, not int8")


def test_a_response_ends_at_the_jobs_stop_ids_and_at_no_others(run: Run) -> None:
    ids = run("ctranslate2").tokens(1)[1]
    sampling = {**measure_job("ctranslate2")["sampling"], "stop_token_ids": [ids[1]]}  # type: ignore[dict-item]
    stopped = run("ctranslate2", sampling=sampling)

    assert stopped.tokens(1)[1] == ids[:2]
    assert {end["finish"] for end in stopped.of("request_end")} == {"eos"}


def test_a_penalty_that_leaves_out_the_prompt_is_said_to_be_incomparable(run: Run) -> None:
    sampling = {"max_new_tokens": 4, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.1}

    assert shown(run("ctranslate2"))["incomparable"] == []
    assert shown(run("ctranslate2", sampling=sampling))["incomparable"] == [
        "the repetition penalty does not count the prompt"
    ]


def test_sampling_follows_the_seed_of_the_block(run: Run, forms: Mapping[str, Path]) -> None:
    sampling = {"max_new_tokens": 8, "temperature": 1.5, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    blocks = [
        run(
            "ctranslate2-int8",
            sampling=sampling,
            again=number,
            requests=[{"request": 0, "prompt_index": 0, "seed": seed}],
        )
        for number, seed in enumerate((5, 6, 5))
    ]
    first, second, again = (block.tokens(0)[1] for block in blocks)

    assert first == again
    assert first != second
    assert shown(blocks[0])["sampling"] == shown(blocks[1])["sampling"]  # or every block would be scored again


def test_ids_are_scored_alike_as_a_prompt_and_one_by_one(interpreter: Interpreter, forms: Mapping[str, Path]) -> None:
    found = in_the_engine(
        interpreter,
        measure_job(
            "ctranslate2", prompts=[PROMPT * 4], converted_folder=str(forms["ctranslate2"]), options={"mkl": True}
        ),
        f"""
ids = {PROMPT * 4}
prefill, decode = engine.score_prefill(ids, 7), engine.score_decode(ids, 7)
print(json.dumps([prefill.nll, decode.nll, prefill.top1 == decode.top1, prefill.log_probs.shape]))
""",
    )
    assert isinstance(found, list)
    prefill, decode, same, shape = found
    assert prefill == pytest.approx(decode, abs=0.001)
    assert (len(prefill), same, shape) == (7, True, [7, 49152])


def test_what_its_converter_does_not_know_is_a_sentence(
    converting: Converting, interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    for path in default_model.folder.iterdir():
        if path.name != "config.json":
            (tmp_path / path.name).symlink_to(path)
    config = json.loads((default_model.folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "model_type": "olmo", "architectures": ["OlmoForCausalLM"]})
    )
    other = Model(**{**{name: getattr(default_model, name) for name in default_model.__slots__}, "folder": tmp_path})

    with pytest.raises(ConversionError, match="CTranslate2's converter does not know the architecture olmo"):
        converting.converted(other, "ct2", Reader(engine="ctranslate2", options={}, interpreter=interpreter))


def test_a_model_file_that_is_cut_off_is_a_sentence(run: Run, forms: Mapping[str, Path], tmp_path: Path) -> None:
    for name in ("config.json", "vocabulary.json", MANIFEST):
        (tmp_path / name).write_bytes((forms["ctranslate2-int8"] / name).read_bytes())
    whole = (forms["ctranslate2-int8"] / "model.bin").read_bytes()
    (tmp_path / "model.bin").write_bytes(whole[: len(whole) // 2])

    error = run("ctranslate2-int8", tmp_path).one("error")
    assert error["kind"] == "unsupported"
    assert str(error["message"]).startswith("CTranslate2 cannot load the model: ")
