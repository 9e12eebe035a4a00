"""The conductor: one measurement at a time on a device, request files, full disks, and what a resume runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import msgspec
import polars as pl
import psutil
import pytest

from methods.base.line_reader import READ_BYTES
from probes.base.clock import boot_id
from sessions.disk import own_plans
from sessions.disk.journal import JournalFullError, JournalWriter
from sessions.disk.records import (
    AnyRecord,
    Asked,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Header,
    Phase,
    Prepared,
    SessionEnded,
    Tokens,
    encode,
)
from sessions.disk.session_folder import FRAMES, SessionError, SessionFolder, create
from sessions.run.conductor import Conductor
from sessions.run.launch import launch, missing, resume
from sessions.run.preparation_run import PREPARATION
from sessions.watch.following import Follower
from tests.sessions.conftest import workplace_in
from tests.sessions.processes import until
from tests.sessions.workplace import (
    Workplace,
    assert_nothing_left,
    conductor_of,
    make_model,
    records_of,
    runner_of,
    runs_of,
)


def begun(folder: SessionFolder, tokens: int = 1) -> bool:
    """Whether that many tokens have come."""
    return sum(len(record.ids) for record in records_of(folder) if isinstance(record, Tokens)) >= tokens


def phases(folder: SessionFolder, name: str) -> list[tuple[str, str]]:
    return [(r.state, r.detail) for r in records_of(folder) if isinstance(r, Phase) and r.name == name]


def slow(work: Workplace) -> str:
    """A method that takes a minute unless it is stopped."""
    return work.method("slow", rate=20.0)


def ask_for_nothing(folder: SessionFolder) -> None:
    """Rubbish among the request files of a session."""
    requests = folder.path / "requests"
    requests.mkdir(exist_ok=True)
    (requests / "stop").mkdir()
    for name in ("skip-", "skip-quick", "skip-quick-x", "halt", "skip-quick-99999999999999999999", "\udcff"):
        (requests / name).touch()


def test_sessions_say_who_has_the_device_and_wait_for_it_or_are_stopped_and_obey_no_rubbish(work: Workplace) -> None:
    first = work.launch(slow(work), max_new_tokens=1_000)
    until(lambda: begun(first), "the first one measures")
    second, third = (work.launch(work.method("quick")) for _ in range(2))
    for waiting in (second, third):
        until(partial(phases, waiting, "device"), "it waits")
        said = ("started", f"waiting for session {first.id}, which is measuring on this device")
        assert phases(waiting, "device") == [said]
    assert (second.read().status, runner_of(second)) == ("preparing", None)
    ask_for_nothing(second)
    third.ask("stop")
    assert work.finished(third) == "stopped"
    assert phases(third, "device")[-1] == ("ended", "stopped while waiting")
    assert not (third.path / "logs" / "preparation.log").exists(), "nothing was begun that had to be ended again"
    assert first.is_live()
    first.ask("stop")
    assert work.finished(first) == "stopped"
    assert work.finished(second) == "finished"
    assert phases(second, "device")[-1][0] == "ended"
    assert [row["status"] for row in runs_of(second)] == ["ok"]
    assert not any(isinstance(record, Asked) for record in records_of(second))
    ended = next(record.t for record in records_of(first) if isinstance(record, BlockEnded))
    started = next(record.t for record in records_of(second) if isinstance(record, BlockStarted))
    assert started > ended, "they never measured at once"


def test_a_stop_once_the_evidence_is_there_keeps_the_block(work: Workplace) -> None:
    folder = work.launch(work.method("lingers", fault="hang", at="close"), work.method("next"))
    first = folder.plan().order()[0].method

    def closing(record: AnyRecord) -> bool:
        return isinstance(record, BlockPhase) and (record.method, record.phase) == ("lingers", "close")

    until(lambda: any(map(closing, records_of(folder))), "lingers closes")
    folder.ask("stop")
    assert work.finished(folder) == "stopped"
    assert_nothing_left(folder)
    row = next(row for row in runs_of(folder) if row["method"] == "lingers")
    assert (row["status"], row["error"]) == ("ok", "")
    assert "evidence cut short: all its requests had ended before this: Stopped by request." in row["flags"]
    assert [method for method, _ in missing(folder)] == (["next"] if first == "lingers" else [])


def test_a_stop_saves_what_was_measured_and_a_resume_runs_the_rest(work: Workplace) -> None:
    names = work.method("quick"), slow(work)
    asked = {"blocks": 2, "requests": 2, "max_new_tokens": 60}
    seed = next(n for n in range(100) if work.plan(*names, **asked, seed=n).order()[1].method == "slow")
    folder = work.launch(*names, **asked, seed=seed)
    order = [(row.method, row.block) for row in folder.plan().order()]
    until(lambda: begun(folder, 70), "the second block measures")
    folder.ask("stop")
    assert work.finished(folder) == "stopped"
    assert_nothing_left(folder)
    assert Asked(t=0, action="stop") in [
        msgspec.structs.replace(r, t=0) for r in records_of(folder) if isinstance(r, Asked)
    ]
    first = {(row["method"], row["block"]): row for row in runs_of(folder)}
    assert [(place, first[place]["status"]) for place in order if place in first] == [
        (order[0], "ok"),
        (order[1], "stopped"),
    ]
    assert first[order[1]]["error"] == "Stopped by request."
    assert missing(folder) == order[1:]
    work.method("slow", rate=2_000.0)  # the plan keeps the method as it was
    assert folder.plan().method("slow").options["rate"] == 20.0
    plan = json.loads((folder.path / "plan.json").read_bytes())
    next(method for method in plan["methods"] if method["name"] == "slow")["options"]["rate"] = 2_000.0
    (folder.path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SessionError, match="or its plan has changed since"):
        resume(folder, work.home)
    own_plans.remember(work.home, folder.id, (folder.path / "plan.json").read_bytes())
    work.resume(folder)
    assert folder.read().status == "finished"
    assert missing(folder) == []
    rows = [(row["method"], row["block"], row["attempt"], row["status"]) for row in runs_of(folder)]
    again = [(*order[1], 1, "ok"), (*order[2], 0, "ok"), (*order[3], 0, "ok")]
    assert rows == [(*order[0], 0, "ok"), (*order[1], 0, "stopped"), *again]
    kept = next(row for row in runs_of(folder) if row["status"] == "stopped")
    assert kept["started_ns"] == first[order[1]]["started_ns"]
    requests = pl.read_parquet(folder.frame("requests"))
    whole = requests.filter(pl.col("finish_reason") == "length").select("method", "block", "request")
    assert sorted(whole.rows()) == sorted((m, b, r) for m in ("quick", "slow") for b, r in ((0, 0), (1, 1)))


def test_a_block_can_be_skipped_before_and_while_it_runs(work: Workplace) -> None:
    folder = work.launch(slow(work), blocks=3, requests=3, max_new_tokens=1_000)
    until(lambda: begun(folder), "the first block measures")
    folder.ask("skip-slow-1")
    folder.ask("skip-slow-0")
    until(lambda: [r for r in records_of(folder) if isinstance(r, BlockStarted) and r.block == 2], "the third begins")
    folder.ask("skip-slow-2")
    assert work.finished(folder) == "finished"
    assert [(row["block"], row["status"], row["error"]) for row in runs_of(folder)] == [
        (0, "stopped", "Skipped by request."),
        (1, "stopped", "Skipped by request."),
        (2, "stopped", "Skipped by request."),
    ]


def test_a_terminals_signals_do_not_end_a_conductor_which_is_in_a_process_session_of_its_own(work: Workplace) -> None:
    folder = work.launch(slow(work), max_new_tokens=1_000)
    with pytest.raises(SessionError, match="is running already: `kasoku attach"):
        resume(folder, work.home)
    until(lambda: begun(folder), "it measures")
    conductor, runner = conductor_of(folder), runner_of(folder)
    assert runner is not None
    assert os.getsid(conductor.pid) == conductor.pid
    assert os.getsid(runner.pid) == runner.pid
    assert conductor.terminal() is None
    for number in (signal.SIGINT, signal.SIGHUP):
        conductor.send_signal(number)
        before = len(records_of(folder))
        until(lambda before=before: len(records_of(folder)) > before + 5, "it goes on")  # type: ignore[misc]
    conductor.send_signal(signal.SIGTERM)
    assert work.finished(folder) == "stopped"
    assert_nothing_left(folder)


def test_a_conductor_that_dies_before_its_first_line_or_cannot_take_a_lock_leaves_a_session_that_is_resumed(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    folder = work.launch(work.method("quick"))
    assert work.finished(folder) == "interrupted"
    assert records_of(folder) == []
    assert all(pl.read_parquet(folder.frame(name)).is_empty() for name in FRAMES)
    follower = Follower(folder)
    assert (follower.poll(), follower.abandoned, follower.snapshot().status) == (False, True, "interrupted")
    said = work.command("show", folder.id)
    assert said.code == 0
    assert "the session's process ended early" in said.out.lower()
    monkeypatch.undo()
    os.environ |= {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
    (work.home / "cache").write_text("in the way")
    work.resume(folder)
    session = folder.read()
    assert session.status == "failed"
    assert f"cannot write to {work.home / 'cache'}" in session.error
    (work.home / "cache").unlink()
    work.resume(folder)
    assert folder.read().status == "finished"
    assert [row["status"] for row in runs_of(folder)] == ["ok"]


def test_a_resume_without_its_model_fails_and_keeps_what_was_measured_and_each_beginning_says_its_time(
    work: Workplace,
) -> None:
    once = work.home.parent / "once"
    work.method("twice", fault="exception", once=str(once))
    folder = work.run("twice", blocks=2, requests=2)
    assert [row["status"] for row in runs_of(folder)] == ["failed", "ok"]
    moved = work.model.rename(work.model.with_name("elsewhere"))
    work.resume(folder)
    session = folder.read()
    assert session.status == "failed"
    assert f"The folder {work.model} does not exist" in session.error
    assert [row["status"] for row in runs_of(folder)] == ["failed", "ok"]
    moved.rename(work.model)
    work.resume(folder)
    assert (folder.read().status, folder.read().error) == ("finished", "")
    assert [(row["block"], row["attempt"], row["status"]) for row in runs_of(folder)] == [
        (0, 0, "failed"),
        (1, 0, "ok"),
        (0, 1, "ok"),
    ]
    headers = [record for record in records_of(folder) if isinstance(record, Header)]
    assert [(header.resumed, header.boot_id, header.session) for header in headers] == [
        (False, boot_id(), folder.id),
        (True, boot_id(), folder.id),
        (True, boot_id(), folder.id),
    ]
    times = [header.realtime_ns for header in headers]
    assert times == sorted(set(times))


def test_what_the_preparation_said_before_its_end_is_read_though_it_takes_several_reads(work: Workplace) -> None:
    """The conductor sleeps until the preparation is over, so that all of it waits in the pipe."""
    make_model(work.model, max_position_embeddings=2_000_000)
    folder = work.launch(work.method("quick"), prompt_tokens=250_000)
    conductor = conductor_of(folder)
    preparation = until(lambda: preparation_of(conductor.pid), "the preparation runs")
    conductor.suspend()
    until(lambda: not preparation.is_running(), "the preparation is over")
    conductor.resume()
    assert work.finished(folder) == "finished", folder.read().error
    prepared = next(record for record in records_of(folder) if isinstance(record, Prepared))
    assert len(encode(prepared)) > 2 * READ_BYTES, "one read would do: this test shows nothing"
    assert pl.read_parquet(folder.frame("requests"))["prompt_tokens"].to_list() == [250_000]


def test_a_prompt_too_long_to_keep_is_refused_with_a_sentence(work: Workplace) -> None:
    make_model(work.model, max_position_embeddings=4_000_000)
    folder = work.run(work.method("quick"), prompt_tokens=3_200_000)
    assert folder.read().status == "failed"
    assert "exceeds what a session can store" in folder.read().error


def test_a_preparation_that_is_killed_is_a_failed_session(work: Workplace) -> None:
    """A pipe stands where the model's config was: the preparation waits in reading it."""
    plan = work.plan(work.method("quick"))
    (work.model / "config.json").unlink()
    os.mkfifo(work.model / "config.json")
    folder = launch(work.home, plan)
    conductor = conductor_of(folder)
    child = until(lambda: preparation_of(conductor.pid), "the preparation runs")
    child.send_signal(signal.SIGKILL)
    assert work.finished(folder) == "failed"
    assert "The preparation was killed by signal 9 (SIGKILL)" in folder.read().error
    assert_nothing_left(folder)


def preparation_of(conductor: int) -> psutil.Process | None:
    for process in psutil.Process(conductor).children(recursive=True):
        if PREPARATION in process.cmdline() and "warden.py" not in " ".join(process.cmdline()):
            return process
    return None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk to fill")
def test_a_full_disk_ends_the_session_readably_and_a_resume_completes_it(small_disk: Path) -> None:
    """The journal fills 3 MB while tokens flow."""
    work = workplace_in(small_disk)
    os.environ |= {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
    work.method("first", rate=10.0)
    work.method("second", rate=10.0)
    rest = shutil.disk_usage(small_disk).free
    folder = work.launch("first", "second", requests=2, blocks=2)
    until(lambda: begun(folder, 20), "the third block measures")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4_096):
                pass
        except OSError:
            pass
    assert rest > 1_000_000
    assert work.finished(folder) in ("failed", "preparing", "running")
    assert_nothing_left(folder)
    assert folder.journal.read_bytes().endswith(b"\n")
    said = work.command("show", folder.id)
    assert said.code == 0, said.err
    assert "is full" in said.out or "no space left" in said.out.lower() or "No space left" in said.out
    filler.unlink()
    said = work.command("show", folder.id)
    assert said.code == 0, said.err
    tokens = sum(len(record.ids) for record in records_of(folder) if isinstance(record, Tokens))
    assert len(pl.read_parquet(folder.frame("tokens"))) == tokens >= 20
    work.resume(folder)
    assert (folder.read().status, missing(folder)) == ("finished", [])


def test_a_journal_that_is_full_ends_the_block_its_runner_and_the_session(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conductor within this process, so that its journal can be made to fill at a chosen record."""
    folder, lock = create(work.home / "sessions", work.plan(slow(work), max_new_tokens=1_000))
    conductor = Conductor(folder, work.home)
    append = JournalWriter.append
    full = False

    def fills_up(self: JournalWriter, record: AnyRecord) -> None:
        nonlocal full
        full = full or isinstance(record, Tokens)
        if full and (folder.path / ".ballast").exists():
            raise JournalFullError(f"The disk of {folder.path} is full: free some space and resume.")
        append(self, record)

    monkeypatch.setattr(JournalWriter, "append", fills_up)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        assert conductor.run() == "failed"
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(lock)
    assert runner_of(folder) is None
    assert "is full" in folder.read().error
    assert [(row["status"], "is full" in row["error"]) for row in runs_of(folder)] == [("failed", True)]
    ended = records_of(folder)[-1]
    assert isinstance(ended, SessionEnded)
    assert (ended.status, "is full" in ended.error) == ("failed", True)
