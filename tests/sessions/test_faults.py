"""One session full of engines that misbehave: each fault is its row, with its reason and its log; the others run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from methods.base.warded_process import ProcessEnd, WardedProcess
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.session_folder import SessionFolder
from sessions.run.block_run import BlockRun
from sessions.run.launch import launch
from sessions.run.requests_in_flight import PlannedPart
from sessions.run.wire import LINE_LIMIT_BYTES, WireTranslator
from tests.made_model import made_prepared
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, assert_nothing_left, records_of, runs_of
from tui.words.terminal_text import one_line

# method: (options, status, what its row says)
FAULTS: dict[str, tuple[dict[str, object], str, str]] = {
    "fails": ({"fault": "exception"}, "failed", "ValueError: scripted failure"),
    "fails-to-load": ({"fault": "exception", "at": "load"}, "failed", "ValueError: scripted failure"),
    "unsupported": ({"fault": "unsupported", "at": "load"}, "unavailable", "This engine does not do that."),
    "leaves": ({"fault": "leave"}, "failed", "The runner exited with status 7 in the phase 'timed'."),
    "segfaults": (
        {"fault": "segfault"},
        "failed",
        "The runner was killed by signal 11 (SIGSEGV) in the phase 'timed'.",
    ),
    "segfaults-in-load": (
        {"fault": "segfault", "at": "load"},
        "failed",
        "The runner was killed by signal 11 (SIGSEGV) in the phase 'load'.",
    ),
    "out-of-memory": ({"fault": "memory_error"}, "oom", "MemoryError"),
    "kernel-refuses-memory": ({"fault": "grow"}, "oom", "MemoryError"),
    "hangs": (
        {"fault": "hang"},
        "stalled",
        "No message from the runner for 6 s in phase 'timed': killed.",
    ),
    "hangs-in-load": (
        {"fault": "hang", "at": "load"},
        "stalled",
        "No message from the runner for 8 s in phase 'load': killed.",
    ),
    "backwards": ({"fault": "backwards"}, "failed", "The runner contradicts itself: its clock ran backwards"),
    "future": ({"fault": "future"}, "failed", "The runner contradicts itself: it reported a time"),
    "negative": ({"fault": "negative"}, "failed", "The runner contradicts itself: its clock ran backwards"),
    "wrong-count": ({"fault": "wrong_count"}, "failed", "it says request 0 has 1000000 tokens, but sent 2"),
    "too-many": ({"fault": "too_many"}, "failed", "of which 8 were requested"),
    "negative-memory": (
        {"fault": "negative_memory", "at": "evidence"},
        "failed",
        "The runner contradicts itself: it reported peak_rss_bytes = -1.",
    ),
    "done-early": ({"fault": "done_early"}, "failed", "it claims to be done inside request 0"),
    "closes-its-wire": ({"fault": "closes_wire"}, "failed", "The runner closed its wire before it was done"),
    "floods-its-wire": ({"fault": "flood_wire"}, "failed", "it sends invalid lines"),
    "gone": ({}, "failed", "The method's interpreter cannot be started"),
    # what costs nothing but a count
    "rubbish": ({"fault": "rubbish"}, "ok", ""),
    "unknown-kinds": ({"fault": "unknown_kinds"}, "ok", ""),
    "long-line": ({"fault": "long_line"}, "ok", ""),
    "floods-its-log": ({"fault": "flood_log"}, "ok", ""),
    "forks-away": ({"fault": "fork_away"}, "ok", ""),
    "lingers": ({"fault": "lingers", "at": "close"}, "ok", ""),
    "good": ({}, "ok", ""),
    # what comes after the last timed request does not take it away
    "fails-in-evidence": ({"fault": "exception", "at": "evidence"}, "ok", ""),
    "segfaults-in-evidence": ({"fault": "segfault", "at": "evidence"}, "ok", ""),
    "leaves-in-evidence": ({"fault": "leave", "at": "evidence"}, "ok", ""),
    "fails-to-close": ({"fault": "exception", "at": "close"}, "ok", ""),
    "segfaults-to-close": ({"fault": "segfault", "at": "close"}, "ok", ""),
}
IN_LOG = {
    "fails": "in generate",
    "fails-to-load": "in load",
    "segfaults": "about to read address 0",
    "segfaults-in-load": "about to read address 0",
    "hangs": "about to hang",
    "hangs-in-load": "about to hang",
    "gone": "cannot be started",
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def pids(work: Workplace) -> Path:
    return work.home.parent / "pids"


@pytest.fixture(scope="module")
def folder(work: Workplace, pids: Path) -> SessionFolder:
    """The session in which all of them ran."""
    broken = work.home.parent / "python"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    work.environment("gone", broken)
    for name, (options, _, _) in FAULTS.items():
        given: dict[str, Any] = {**options, "pids": str(pids)} if name == "forks-away" else {**options}
        work.method(name, environment="gone" if name == "gone" else "plain", **given)
    return work.run(*FAULTS, blocks=1, load_deadline_s=8.0, token_deadline_s=6.0)


@pytest.fixture(scope="module")
def rows(folder: SessionFolder) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in runs_of(folder)}


@pytest.fixture(scope="module")
def shown(work: Workplace, folder: SessionFolder) -> str:
    said = work.command("show", folder.id)
    assert said.code == 0, said.err
    return said.out


def test_the_session_finishes_with_a_row_for_every_method(folder: SessionFolder, rows: dict[str, Any]) -> None:
    session = folder.read()
    assert (session.status, session.error) == ("finished", "")
    assert sorted(rows) == sorted(FAULTS)
    assert_nothing_left(folder)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_a_row_with_its_status_and_its_reason(rows: dict[str, Any], name: str) -> None:
    _, status, reason = FAULTS[name]
    assert (rows[name]["status"], reason in rows[name]["error"]) == (status, True), rows[name]["error"]
    if status == "ok":
        assert rows[name]["error"] == ""
        assert rows[name]["in_effect"] is (None if FAULTS[name][0].get("at") == "evidence" else True)


@pytest.mark.parametrize("name", [name for name, (_, status, _) in FAULTS.items() if status != "ok"])
def test_show_tells_the_reason_and_the_last_lines_of_the_log(shown: str, rows: dict[str, Any], name: str) -> None:
    flat = " ".join(shown.split())
    reason = one_line(rows[name]["error"], 600)
    assert f"{name}, block 0: {FAULTS[name][1]}: {reason}" in flat
    if name in IN_LOG:
        assert any(IN_LOG[name] in line for line in rows[name]["log_tail"])
        after = flat[flat.index(f"{name}, block 0: ") :]
        assert IN_LOG[name] in after[:4_000]


@pytest.mark.parametrize("name", FAULTS)
def test_the_tokens_of_a_broken_request_stay_and_no_rate_is_made_of_them(
    folder: SessionFolder, rows: dict[str, Any], name: str
) -> None:
    requests = pl.read_parquet(folder.frame("requests")).filter(pl.col("method") == name).to_dicts()
    tokens = pl.read_parquet(folder.frame("tokens")).filter(pl.col("method") == name)
    if rows[name]["status"] == "ok":
        assert [(row["output_tokens"], row["finish_reason"]) for row in requests] == [(8, "length")]
        assert len(tokens) == 8
    elif FAULTS[name][0].get("at") in ("load",) or name == "gone":
        assert requests == []
        assert len(tokens) == 0
    elif FAULTS[name][0].get("at") == "evidence":
        assert [(row["output_tokens"], row["finish_reason"]) for row in requests] == [(8, "length")]
    else:
        assert [row["finish_reason"] in ("error", "stopped") for row in requests] == [True]
        assert requests[0]["output_tokens"] == len(tokens) < 8
        assert tokens["token_id"].to_list() == [(tokens["token_id"][0] + n) % 64 for n in range(len(tokens))]


def flags_of(row: dict[str, Any]) -> list[str]:
    """A row's flags without what else is said of them."""
    return [flag.partition(":")[0] for flag in row["flags"]]


def test_what_an_engine_left_running_was_ended_and_counted(rows: dict[str, Any], pids: Path) -> None:
    assert rows["forks-away"]["left_behind"] == 2
    left = [int(line) for line in pids.read_text().split()]
    assert len(left) == 2
    assert not any(psutil.pid_exists(pid) for pid in left)


def test_one_that_says_it_is_done_and_does_not_end_is_ended_and_flagged(
    folder: SessionFolder, rows: dict[str, Any]
) -> None:
    assert "did not exit on its own" in flags_of(rows["lingers"])
    assert "did not exit on its own" not in flags_of(rows["good"])
    assert any("lingers" in getattr(record, "text", "") for record in records_of(folder))


def test_what_could_not_be_read_after_the_timed_part_is_null_with_its_reason(rows: dict[str, Any]) -> None:
    assert "scripted failure" in rows["fails-in-evidence"]["in_effect_reason"]
    for name, said in (("segfaults-in-evidence", "signal 11 (SIGSEGV)"), ("leaves-in-evidence", "status 7")):
        missing = json.loads(rows[name]["missing"])
        assert (rows[name]["peak_rss_bytes"], bool(missing["peak_rss_bytes"]), bool(missing["in_effect"])) == (
            None,
            True,
            True,
        )
        assert any(flag.startswith("evidence cut short: ") and said in flag for flag in rows[name]["flags"]), name
    assert "evidence cut short" in flags_of(rows["segfaults-to-close"])
    assert rows["segfaults-to-close"]["peak_rss_bytes"] > 0
    assert "evidence cut short" not in flags_of(rows["good"])


def test_lines_that_are_no_messages_are_said(folder: SessionFolder, rows: dict[str, Any]) -> None:
    for name in ("rubbish", "unknown-kinds", "long-line"):
        assert "invalid lines" in flags_of(rows[name]), name
    assert "invalid lines" not in flags_of(rows["good"])


def test_the_journal_holds_nothing_of_the_rubbish(folder: SessionFolder) -> None:
    assert folder.journal.stat().st_size < 5_000_000
    assert b"weather" not in folder.journal.read_bytes()


def test_what_follows_a_broken_method_is_measured_as_if_nothing_had_been(
    folder: SessionFolder, rows: dict[str, Any]
) -> None:
    order = [row.method for row in folder.plan().order()]
    ran_well = [name for name in order if rows[name]["status"] == "ok"]
    assert sorted(ran_well) == sorted(name for name, (_, status, _) in FAULTS.items() if status == "ok")
    ended = [rows[name]["ended_ns"] for name in order]
    assert ended == sorted(ended), "block after block, none over another"


def test_a_method_that_could_not_be_loaded_is_not_tried_again_and_its_row_says_so(tmp_path: Path) -> None:
    for work in opened(tmp_path):
        work.method("broken", fault="exception", at="load")
        work.method("good", fault="exception", once=str(tmp_path / "once"))
        folder = work.run("broken", "good", blocks=2, requests=2, seed=1)
        by_block = {(row["method"], row["block"]): row for row in runs_of(folder)}
        assert by_block["broken", 0]["error"].startswith("ValueError")
        assert by_block["broken", 1]["status"] == "failed"
        assert "could not be loaded in block 0 (ValueError" in by_block["broken", 1]["error"]
        assert by_block["good", 0]["status"] == "failed"
        assert by_block["good", 1]["status"] == "ok", "a request that fails says nothing of the next block"


def test_an_interpreter_that_goes_after_the_plan_is_a_row(tmp_path: Path) -> None:
    for work in opened(tmp_path):
        python = tmp_path / "python"
        python.symlink_to("/bin/true")
        work.environment("going", python)
        work.method("gone", environment="going")
        work.method("good")
        plan = work.plan("gone", "good")
        python.unlink()
        folder = launch(work.home, plan)
        assert work.finished(folder) == "finished"
        rows = {row["method"]: row for row in runs_of(folder)}
        assert rows["good"]["status"] == "ok"
        assert rows["gone"]["status"] == "unavailable"
        assert f"{python} in your config for going does not exist" in rows["gone"]["error"]
        assert "`kasoku env use going" in rows["gone"]["error"]


def test_logs_are_the_users_alone(folder: SessionFolder) -> None:
    for path in [folder.path, *folder.path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, f"{path} {oct(path.stat().st_mode)}"
        assert path.stat().st_uid == os.getuid()


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (
            ProcessEnd(signal=9, oom_kills=1),
            ("oom", "The kernel killed the runner because the machine ran out of memory."),
        ),
        (
            ProcessEnd(signal=9, oom_kills=0),
            ("failed", "The runner was killed by signal 9 (SIGKILL) in the phase 'start'."),
        ),
        (ProcessEnd(signal=9), ("failed", "The runner was killed by signal 9 (SIGKILL) in the phase 'start'.")),
        (
            ProcessEnd(signal=6, oom_kills=1),
            ("failed", "The runner was killed by signal 6 (SIGABRT) in the phase 'start'."),
        ),
    ],
)
def test_a_kill_while_the_kernel_was_out_of_memory_is_oom(
    tmp_path: Path, end: ProcessEnd, expected: tuple[str, str]
) -> None:
    """The warden reports by how much the kernel's count of such kills rose; filling a machine's memory would do it."""
    plan = Plan(methods=[PlannedMethod(name="one", engine="e", environment="plain")])
    block = plan.order()[0]
    prepared = made_prepared()
    run = BlockRun(SessionFolder(tmp_path), plan, block, prepared, lambda record: None, lambda: "", tmp_path)
    process = WardedProcess(["/bin/true"], tmp_path / "log", {}, tmp_path, LINE_LIMIT_BYTES)
    process.close()
    translator = WireTranslator("one", 0, [PlannedPart(timed=block.requests, max_new_tokens=8)], 0)
    assert run._judge("", translator, end, process) == expected
