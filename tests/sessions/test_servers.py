"""Servers in whole sessions: one that Kasoku starts for each block, and one that runs already."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from methods.base.home import private_folder
from methods.jobs import servers
from methods.models.prompts import DEFAULT
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.planning.make import make_plan
from sessions.planning.wanted import Wanted
from sessions.run.launch import launch, missing
from sessions.verdict.comparison import compare
from sessions.verdict.one_process import ONE_PROCESS
from tests.methods.small_server import running
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, records_of, runs_of

SMALL = Path(__file__).parents[1] / "methods" / "small_server.py"
KEY = "sk-of-a-test-0123456789"


def started(work: Workplace, *more: str) -> str:
    """A method in the catalogue: the small server, started for each block."""
    command = [sys.executable, str(SMALL), "{port}", "--asked", str(work.home / "asked"), *more]
    rows = [
        "[methods.served]",
        'summary = "a small server"',
        'engine = "server"',
        'environments = { cpu = "plain" }',
        'must_show = { served_by = "vllm" }',
        "[methods.served.options]",
        f"command = {json.dumps(command)}",
        'key_variable = "KASOKU_TEST_KEY"',
    ]
    (private_folder(work.config / "methods") / "served.toml").write_text("\n".join(rows) + "\n")
    return "served"


def alone(work: Workplace, server: str, *methods: str, **said: Any) -> SessionFolder:
    """A session of a server that runs already and of nothing else, unless methods are named."""
    asked = {"server": server, "device": "cpu", "seed": 7, "max_new_tokens": 8, **said}
    folder = launch(work.home, make_plan(Wanted(asked, methods=methods), work.home, work.config))
    work.finished(folder)
    return folder


def frame(folder: SessionFolder, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder.frame(name))


def servers_of(work: Workplace) -> list[psutil.Process]:
    """Those of `started` that are alive."""
    asked = str(work.home / "asked")
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if str(SMALL) in line and asked in line:
            found.append(process)
    return found


def everything_kept(folder: SessionFolder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())


def test_a_started_server_is_a_method_like_any(work: Workplace) -> None:
    folder = work.run(started(work), requests=4, blocks=2, warmup=1)

    runs = runs_of(folder)
    assert [run["status"] for run in runs] == ["ok", "ok"], [run["error"] for run in runs]
    assert [run["in_effect"] for run in runs] == [True, True]
    assert [run["threads"] for run in runs] == [None, None]
    assert json.loads(runs[0]["missing"])["threads"] == "A server does not say it over HTTP."
    assert [run["in_effect_reason"] for run in runs] == ["The server calls itself vllm."] * 2
    assert not any("not fresh" in flag for run in runs for flag in run["flags"])
    tokens = frame(folder, "tokens")
    assert len(tokens) == 6 * 8
    assert not tokens["token_id"].has_nulls()
    assert frame(folder, "requests")["itl_s_p50"].null_count() == 0
    listening = [address for run in runs for address in run["sockets"]]
    assert listening  # looked for now and then: a block may be too short for that on a busy machine
    assert all(each.startswith("listens on 127.0.0.1:") for each in listening)
    assert servers_of(work) == []
    assert_nothing_left(folder)


def test_a_server_is_gone_when_its_conductor_is_killed_in_mid_request(work: Workplace) -> None:
    folder = work.launch(started(work, "--fault", "hangs"), requests=1)
    until(lambda: servers_of(work) and (work.home / "asked").exists(), "the server is asked")
    conductor_of(folder).kill()
    until(lambda: not servers_of(work), "the server is gone")
    assert_nothing_left(folder)


def test_a_server_killed_in_mid_request_is_a_failed_row(work: Workplace) -> None:
    folder = work.run(started(work, "--fault", "killed"), requests=2, blocks=1)
    (run,) = runs_of(folder)
    assert run["status"] == "failed"
    assert "was killed by signal 9" in run["error"]
    (request,) = frame(folder, "requests").to_dicts()
    assert (request["finish_reason"], request["output_tokens"]) == ("error", 2), (
        "what came is kept, and counts for none"
    )


def test_a_server_alone_is_measured_by_its_own_count_and_gets_no_verdict(work: Workplace) -> None:
    with running() as server:
        folder = alone(work, server.address)

    plan = folder.plan()
    assert (plan.model, plan.blocks, plan.requests, plan.until) == ("server:kasoku", 3, 6, None)
    assert plan.at_most == 40
    runs = runs_of(folder)
    assert [run["status"] for run in runs] == ["ok"] * 3, [run["error"] for run in runs]
    assert all("not fresh: a server that Kasoku did not start, one process for all blocks" in r["flags"] for r in runs)
    requests = frame(folder, "requests").filter(~pl.col("warmup"))
    assert requests["output_tokens"].to_list() == [8] * 6
    assert set(requests["prompt_tokens"]) == {len(DEFAULT.split())}, "as the server counts them"
    assert requests["ttft_s"].null_count() == requests["decode_tok_s"].null_count() == 0
    assert "två three 四 " in requests["text"][0]
    tokens = frame(folder, "tokens")
    assert tokens["token_id"].null_count() == len(tokens) == 9 * 8
    comparison = compare(Store(work.home / "sessions"), [(folder.id, None)])
    (row,) = comparison.rows
    assert comparison.unscored == (), "its fidelity cannot be added"
    assert row.tok_s_mean is not None
    assert row.tok_s_sd is not None
    assert (row.tok_s_low, row.tok_s_high, row.ratio) == (None, None, None)
    assert row.verdict == ONE_PROCESS
    assert row.missing["tok_s_low"] == ONE_PROCESS
    shown = work.command("show", folder.id).out
    for words in (
        "model kasoku as its server has it (dtype not known)",
        f"kasoku, served by somebody at {server.address}",
        f"{row.tok_s_mean:.1f} tokens/s, from " if row.tok_s_mean < 1000 else " tokens/s, from ",
        "in 6 answers of up to 8 tokens",
        "words a second: most people read 4",
        "the precision of its weights: the server does not say it",
        f"kasoku run --server {server.address} --server-model kasoku --concurrency 1,2,4,8",
    ):
        assert words in shown
    for command in (["show", folder.id], ["export", folder.id, "--out", str(work.home / "csv")]):
        said = work.command(*command)
        assert (said.code, said.err) == (0, ""), said.err
    assert comparison.remarks[0].startswith(
        f"{server.address} gives one client {row.tok_s_mean:.1f} tokens/s of kasoku"
    )
    assert "holds for the process that ran" in comparison.remarks[0]


@pytest.mark.engines
@pytest.mark.parametrize(("pace_s", "answers"), [(0.3, 3), (1.4, 0)], ids=["a few answers in time", "none"])
def test_a_slow_server_is_measured_for_no_longer_than_allowed(work: Workplace, pace_s: float, answers: int) -> None:
    """Eight tokens an answer, ten seconds: what was cut does not count, and is said."""
    with running(pace_s=pace_s) as server:
        said = work.command(
            *("run", "--device", "cpu", "--server", server.address, "--max-new-tokens", "8", "--at-most", "10s")
        )
    (folder,) = work.sessions()
    assert folder.read().status == "finished"
    runs, requests = runs_of(folder), frame(folder, "requests")
    cut = requests.filter(pl.col("finish_reason") == "stopped")
    whole = requests.filter(~pl.col("warmup") & (pl.col("finish_reason") == "length"))
    assert len(whole) <= answers, "of six"
    if answers:
        assert said.code == 0
        assert " tokens/s" in said.out
    else:
        assert said.code == 1
        assert "no answer of 8 tokens was complete in 10 s; the one under way had come to" in said.out
        assert "--max-new-tokens 1\n" in said.out
        assert [run["status"] for run in runs] == ["stopped"]
        assert len(cut) == 1
    assert missing(folder) == [], "it has ended by time"
    assert_nothing_left(folder)


def test_a_response_that_breaks_off_among_many_is_a_row_of_its_own(work: Workplace) -> None:
    # the greedy pass after the timed part asks alone, and is let down
    with running("vllm", "closed once at 20", together=8, patience_s=10) as server:
        folder = alone(work, server.address, concurrency="8", requests=2, blocks=1, warmup=1)

    (run,) = runs_of(folder)
    assert run["status"] == "ok", run["error"]
    requests = frame(folder, "requests").filter(~pl.col("warmup"))
    assert len(requests) == 16
    (lost,) = requests.filter(pl.col("finish_reason") == "error").to_dicts()
    why = f"The server at 127.0.0.1:{server.server_port} closed the stream before its end."
    assert json.loads(lost["missing"])["finish_reason"] == why
    assert requests.filter(pl.col("finish_reason") == "length")["output_tokens"].to_list() == [8] * 15
    assert f"requests failed: 1 of 16 timed requests did not complete: {why}" in run["flags"]
    assert "requests failed: 1 of 16" in " ".join(work.command("show", folder.id).out.split())


def test_when_each_token_came_is_unknown_where_a_piece_holds_two(work: Workplace) -> None:
    with running(fault="two a chunk") as server:
        folder = alone(work, server.address, requests=1)

    (request,) = frame(folder, "requests").filter(~pl.col("warmup")).to_dicts()
    assert request["output_tokens"] == 8
    assert request["e2e_tok_s"] > 0
    assert request["ttft_s"] > 0
    assert (request["decode_tok_s"], request["itl_s_p50"]) == (None, None)
    reason = "the server sent 8 tokens in 4 pieces: when each came is not known"
    assert json.loads(request["missing"])["decode_tok_s"] == reason
    (run,) = runs_of(folder)
    assert json.loads(run["missing"])["itl_s_p50"] == reason
    assert len(frame(folder, "tokens")) == 0


def test_a_server_beside_a_method_gets_the_same_ids_and_stays_out_of_the_verdicts(work: Workplace) -> None:
    work.method("one")
    work.method("two", reference="one")
    with running("vllm") as server:
        said = {"model": str(work.model), "prompt_tokens": 4, "requests": 3, "blocks": 3, "warmup": 0}
        folder = alone(work, server.address, "one", "two", **said)

    comparison = compare(Store(work.home / "sessions"), [(folder.id, None)])
    rows = {row.method: row for row in comparison.rows}
    assert set(rows) == {"one", "two", "server"}
    assert rows["two"].ratio is not None
    assert rows["server"].verdict == ONE_PROCESS
    assert not frame(folder, "tokens").filter(pl.col("method") == "server")["token_id"].has_nulls()
    against = compare(Store(work.home / "sessions"), [(folder.id, None)], baseline="server")
    assert {row.verdict for row in against.rows} == {ONE_PROCESS}


def test_a_key_goes_to_the_server_and_nowhere_else(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVERS_KEY", KEY)
    with running(key=KEY) as server:
        folder = alone(work, server.address, server_key="MY_SERVERS_KEY", requests=1)
        seen = set(server.headers_seen)
    (run,) = runs_of(folder)
    assert run["status"] == "ok", run["error"]
    assert seen == {f"Bearer {KEY}"}
    assert KEY.encode() not in everything_kept(folder)
    assert folder.plan().server_key == "MY_SERVERS_KEY"


def test_a_key_is_not_among_the_variables_of_other_methods(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of the same session that tells all its variables."""
    monkeypatch.setenv("MY_SERVERS_KEY", KEY)
    telling = Path(__file__).parents[1] / "security" / "telling_engine.py"
    rows = (
        f"[methods.telling]\nsummary = 's'\nengine = {json.dumps(str(telling))}\nenvironments = {{ cpu = 'plain' }}\n"
    )
    (private_folder(work.config / "methods") / "telling.toml").write_text(rows)
    with running("vllm", key=KEY) as server:
        said = {"model": str(work.model), "prompt_tokens": 4, "requests": 1, "blocks": 1, "warmup": 0}
        folder = alone(work, server.address, "telling", server_key="MY_SERVERS_KEY", **said)
    assert {run["method"]: run["status"] for run in runs_of(folder)} == {"telling": "ok", "server": "ok"}
    assert KEY.encode() not in everything_kept(folder)


def test_a_key_that_is_gone_when_the_session_goes_on_is_said(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVERS_KEY", KEY)
    with running(key=KEY) as server:
        asked = {"server": server.address, "device": "cpu", "server_key": "MY_SERVERS_KEY"}
        plan = make_plan(Wanted(asked), work.home, work.config)
        monkeypatch.delenv("MY_SERVERS_KEY")
        folder = launch(work.home, plan)
        work.finished(folder)
    assert {run["status"] for run in runs_of(folder)} == {"unavailable"}
    assert "MY_SERVERS_KEY, which is to hold the server's API key, is not set" in runs_of(folder)[0]["error"]


@pytest.mark.parametrize("fault", ["500", "closed", "another model"])
def test_a_running_servers_fault_is_a_row_with_a_sentence(work: Workplace, fault: str) -> None:
    with running(fault=fault) as server:
        folder = alone(work, server.address, requests=1)
    (run,) = runs_of(folder)
    assert run["status"] == "failed"
    assert run["error"].startswith("The server ")
    assert_nothing_left(folder)
    assert [record for record in records_of(folder) if "\x1b" in str(record)] == []


# Which servers are here


def test_usual_ports_are_asked_at_once_and_without_a_key(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", KEY)
    with running("vllm") as one, running(key=KEY) as locked, running(fault="no model") as empty:
        ports = [one.server_port, locked.server_port, empty.server_port, 9]
        monkeypatch.setattr(servers, "USUAL", dict.fromkeys(ports, "somebody"))
        found = servers.usual_servers(work.home)
        assert {header for each in (one, locked, empty) for header in each.headers_seen} == {None}
    assert [(each.url, dict(each.models), each.wants_key) for each in found] == [
        (f"http://127.0.0.1:{one.server_port}", {"kasoku": "vllm"}, False),
        (f"http://127.0.0.1:{locked.server_port}", {}, True),
    ]


def test_auto_takes_the_only_server_there_is(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as server:
        monkeypatch.setattr(servers, "USUAL", {server.server_port: "somebody"})
        plan = make_plan(Wanted({"server": "auto", "device": "cpu"}), work.home, work.config)
    assert plan.server == f"http://127.0.0.1:{server.server_port}"
    assert [method.name for method in plan.methods] == ["server"]
