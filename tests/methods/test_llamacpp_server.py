"""llama.cpp's own server on the real model, over HTTP: the ids of llama.cpp in the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from methods.base.home import private_folder
from methods.base.interpreter import Interpreter
from methods.catalogue.catalogue import load_catalogue
from methods.models.converted import Converting, Reader
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.loads import four_at_once, ids_by_request, most_in_flight
from tests.methods.runner_process import Outcome, judged, measure_job, run_in, shown

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]
PROMPT = [504, 3575, 282, 4649, 314]


@pytest.fixture(scope="module")
def interpreter(made_environment: MakeEnvironment) -> Interpreter:
    return made_environment("llamacpp-cpu")


@pytest.fixture(scope="module")
def folder(converting: Converting, interpreter: Interpreter, default_model: Model) -> Path:
    """The model with a vocabulary, made and checked."""
    return converting.converted(
        default_model, "gguf-words", Reader(engine="llamacpp", options={}, interpreter=interpreter)
    )


def measured(
    engine: str,
    options: object,
    interpreter: Interpreter,
    model: Model,
    converted: Path,
    at: Path,
    path: str,
    **changes: object,
) -> Outcome:
    job = measure_job(engine, options=options, model_folder=str(model.folder), prompts=[PROMPT], greedy=True, **changes)
    private = private_folder(at / engine)
    job |= {"converted_folder": str(converted), "private_folder": str(private)}
    outcome = run_in(interpreter, job, private, {"PATH": path})
    assert outcome.status == 0, [*outcome.of("error"), outcome.log]
    return outcome


def test_its_server_generates_the_ids_of_llamacpp_in_the_process(
    llama_server: Path, interpreter: Interpreter, default_model: Model, folder: Path, tmp_path: Path
) -> None:
    method = load_catalogue(tmp_path).methods["llamacpp-server"]
    path = f"{llama_server}{os.pathsep}{os.environ['PATH']}"
    server = measured("server", method.options, interpreter, default_model, folder, tmp_path, path)
    process = measured("llamacpp", {}, interpreter, default_model, folder, tmp_path, path)

    for request in range(3):
        times, ids = server.tokens(request)
        assert ids == process.tokens(request)[1]
        assert times == sorted(times)
    assert [end["finish"] for end in server.of("request_end")] == ["length"] * 3
    assert [end["cached_prompt_tokens"] for end in server.of("request_end")] == [0] * 3
    judgement = judged("llamacpp-server", server, tmp_path)
    assert judgement.in_effect is True, judgement.reason
    assert shown(server)["incomparable"] == []
    over_http, inside = shown(server)["greedy"], shown(process)["greedy"]
    assert isinstance(over_http, dict)
    assert isinstance(inside, dict)
    assert over_http["ids"] == inside["ids"]
    assert over_http["margins"] == pytest.approx(inside["margins"], abs=0.1)

    load = four_at_once()
    several = measured("server", method.options, interpreter, default_model, folder, tmp_path / "load", path, **load)
    assert [end.get("error") for end in several.of("request_end")] == [None] * 12
    found = ids_by_request(several)
    assert {number: len(ids) for number, ids in found.items()} == dict.fromkeys(range(-4, 8), 4)
    assert several.one("point_end")["status"] == "ok"
    assert most_in_flight(several) == 4
    assert [end["cached_prompt_tokens"] for end in several.of("request_end")] == [0] * 12
