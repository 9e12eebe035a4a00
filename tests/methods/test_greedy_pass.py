from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from methods.base.interpreter import Interpreter
from methods.models.models import Model
from tests.methods.runner_process import measure_job, run_in

SAMPLING = {"max_new_tokens": 8, "stop_token_ids": [], "top_p": 0.95, "top_k": 50}


def said(interpreter: Interpreter, model: Model, folder: Path, **changes: Any) -> tuple[dict[str, Any], list[int]]:
    """The evidence, and the ids of the first timed request."""
    folder.mkdir()
    job = measure_job("transformers", model_folder=str(model.folder), **changes)
    outcome = run_in(interpreter, job, folder)
    assert outcome.status == 0, outcome.log
    evidence = outcome.one("evidence")["evidence"]
    assert isinstance(evidence, dict)
    return evidence, outcome.tokens(1)[1]


@pytest.mark.model
@pytest.mark.engines
def test_the_greedy_pass_is_what_greedy_requests_say_and_is_none_of_them(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    """A sampled session's greedy pass has the ids of a greedy session, and its margins are those of its logits."""
    options = {"attn_implementation": "eager", "cache": "dynamic"}
    greedy = SAMPLING | {"temperature": 0.0, "repetition_penalty": 1.0}
    sampled = SAMPLING | {"temperature": 1.5, "repetition_penalty": 1.3}
    _, ids = said(torch_interpreter, default_model, tmp_path / "greedy", options=options, sampling=greedy)
    evidence, drawn = said(
        torch_interpreter, default_model, tmp_path / "sampled", options=options, sampling=sampled, greedy=True
    )
    assert evidence["greedy"]["ids"] == ids
    assert drawn != ids
    margins = evidence["greedy"]["margins"]
    assert len(margins) == 8
    assert all(margin >= 0 for margin in margins)
    assert any(margin > 0 for margin in margins)
    assert evidence["sampling"]["choice"] == "sampled"


def test_an_engine_without_a_greedy_pass_says_so_and_the_block_stands(
    torch_interpreter: Interpreter, tmp_path: Path
) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text(
        "from kasoku_engine import Engine\n"
        "class Counting(Engine):\n"
        "    def load(self, job):\n"
        "        return {}\n"
        "    def generate(self, request, emit):\n"
        "        emit([1, 2])\n"
        "ENGINE = Counting\n"
    )
    outcome = run_in(torch_interpreter, measure_job(str(engine), greedy=True), tmp_path)
    assert outcome.status == 0, outcome.log
    evidence = outcome.one("evidence")["evidence"]
    assert isinstance(evidence, dict)
    assert evidence["missing"]["greedy"] == "this engine makes no greedy pass"
