"""One real session of all methods on the CPU: each in its own environment, as many threads each, no process left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from methods.base.home import CACHE, ENVIRONMENTS, MODELS, private_folder
from methods.catalogue.catalogue import load_catalogue
from methods.models.conversions import CONVERSIONS
from sessions.disk.records import BlockEnded
from sessions.disk.session_folder import SessionFolder
from tests.conftest import MakeEnvironment, left_out
from tests.sessions.workplace import Workplace, assert_nothing_left, records_of, runs_of

pytestmark = [pytest.mark.model, pytest.mark.timeout(3600)]
NEVER_IN_EFFECT = {"torch-compile-wrapper", "article-torch-compile", "article-flash-attention-1-compile"}
DRAFTING_FROM_THE_TEXT = {"prompt-lookup", "vllm-ngram"}  # in effect where eight tokens repeat something
SERVERS = {"vllm-server", "llamacpp-server"}
THREADS = 1


def on_a_cpu(config: Path) -> list[str]:
    return [name for name, method in load_catalogue(config).methods.items() if "cpu" in method.needs.devices]


@pytest.fixture(scope="module")
def session(
    made_environment: MakeEnvironment,
    assets: Path,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> SessionFolder:
    """`kasoku run` with every method of the catalogue that a CPU can run, 8 greedy tokens each; without those whose
    environment is left out, which `test_it_has_an_environment` tells."""
    config = tmp_path_factory.mktemp("config")
    catalogue = load_catalogue(config).methods
    used = {name: catalogue[name].environments["cpu"] for name in on_a_cpu(config)}
    names = [name for name, environment in used.items() if not left_out(environment, assets)]
    converting = {each.environment for each in CONVERSIONS.values() if each.environment is not None}
    for environment in sorted({used[name] for name in names} | converting):
        made_environment(environment)
    home = private_folder(tmp_path_factory.mktemp("home") / "home")
    for shared in (ENVIRONMENTS, MODELS, CACHE):
        (home / shared).symlink_to(private_folder(assets / shared))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KASOKU_HOME", str(home))
        patched.setenv("KASOKU_CONFIG", str(config))
        if "llama-server" in {catalogue[name].program for name in names}:
            patched.setenv("PATH", str(request.getfixturevalue("llama_server")), prepend=os.pathsep)
        work = Workplace(home, config, Path("unused"))
        methods = [word for name in names for word in ("--method", name)]
        short = ["--requests", "1", "--blocks", "1", "--warmup", "1", "--max-new-tokens", "8", "--seed", "1"]
        threads = ["--threads", str(THREADS), "--prompt", "The capital of France is"]
        said = work.kasoku("run", *methods, "--device", "cpu", *short, *threads, timeout=3000)
        folder = work.sessions()[-1]
    assert said.code == 0, said.err + json.dumps([[row["method"], row["error"]] for row in runs_of(folder)], indent=1)
    return folder


@pytest.fixture(scope="module")
def rows(session: SessionFolder) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in runs_of(session)}


@pytest.mark.parametrize("method", on_a_cpu(Path(os.devnull)))
def test_it_has_an_environment(made_environment: MakeEnvironment, method: str) -> None:
    assert made_environment(load_catalogue(Path(os.devnull)).methods[method].environments["cpu"]).python.exists()


def test_every_method_generates_with_the_default_model(rows: dict[str, dict[str, Any]]) -> None:
    assert {name: row["status"] for name, row in rows.items()} == dict.fromkeys(rows, "ok")


def test_each_is_in_effect_but_those_that_compile_nothing(rows: dict[str, dict[str, Any]]) -> None:
    not_in_effect = {name for name, row in rows.items() if row["in_effect"] is not True}
    assert not_in_effect - DRAFTING_FROM_THE_TEXT == NEVER_IN_EFFECT
    assert {rows[name]["in_effect"] for name in NEVER_IN_EFFECT} == {False}


def test_no_response_lacks_a_token(session: SessionFolder) -> None:
    """Greedy, and nowhere near an end of the text: all have the 8 tokens that were asked for, timed or warming up."""
    requests = pl.read_parquet(session.path / "requests.parquet")
    counts = {(method, tokens) for method, tokens in requests.select("method", "output_tokens").iter_rows()}
    assert counts == {(method.name, 8) for method in session.plan().methods}


def test_all_had_the_same_number_of_threads(rows: dict[str, dict[str, Any]]) -> None:
    assert {row["threads"] for name, row in rows.items() if name not in SERVERS} == {THREADS}
    assert {row["threads"] for name, row in rows.items() if name in SERVERS} <= {None}


def test_no_process_of_any_of_them_is_left(session: SessionFolder) -> None:
    assert_nothing_left(session)
    ended = [record for record in records_of(session) if isinstance(record, BlockEnded)]
    assert {record.method: record.left_behind for record in ended if record.left_behind} == {}
