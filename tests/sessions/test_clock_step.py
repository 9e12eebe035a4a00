"""The time of day is set back and forth by days while a session runs, for every one of its processes.

A C library that is preloaded shifts CLOCK_REALTIME; setting the machine's clock would not stay within the test.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from sessions.disk.records import BlockStarted, Header, Tokens
from tests.sessions.processes import until
from tests.sessions.soundness import assert_completed, assert_sound
from tests.sessions.workplace import Workplace, records_of, runs_of

DAY_S = 86_400
SOURCE = Path(__file__).with_name("stepping_clock.c")


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says by how many seconds the time of day is off, for every process begun from now on."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler for the library that shifts the time of day")
    library = tmp_path / "stepping_clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("CLOCK_STEP", str(tmp_path / "step"))
    return tmp_path / "step"


def test_a_clock_that_is_set_back_and_forth_while_a_session_runs_changes_no_measurement(
    work: Workplace, step: Path
) -> None:
    step.write_text("0")
    work.method("one", rate=100.0)
    folder = work.launch("one", blocks=3, requests=3, max_new_tokens=60, token_deadline_s=10.0)
    before = time.perf_counter_ns()
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "tokens flow")
    step.write_text(str(-3 * DAY_S))
    until(lambda: sum(isinstance(record, BlockStarted) for record in records_of(folder)) > 1, "another block begins")
    step.write_text(str(3 * DAY_S))
    assert work.finished(folder) == "finished"
    after = time.perf_counter_ns()

    session = folder.read()
    assert session.ended_ns is not None
    off = (session.ended_ns - time.time_ns()) / 1e9
    assert off > 2 * DAY_S, "the conductor's time of day was shifted: else this test shows nothing"
    assert [row["status"] for row in runs_of(folder)] == ["ok"] * 3
    times = pl.read_parquet(folder.frame("tokens"))["t_ns"].to_list()
    assert all(before < t < after for t in times)
    assert all(earlier < later for earlier, later in pairwise(times))
    assert pl.read_parquet(folder.frame("requests"))["e2e_s"].is_between(0.5, 30.0).all()
    assert_completed(folder)
    assert_sound(folder)


def test_a_session_that_began_in_the_future_can_be_stopped_shown_and_listed(work: Workplace, step: Path) -> None:
    step.write_text(str(3 * DAY_S))
    work.method("one", rate=100.0)
    said = work.kasoku(*work.options("one", max_new_tokens=2_000), "--detach")
    assert said.code == 0, said.err
    folder = work.sessions()[-1]
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "tokens flow")
    step.write_text("0")
    folder.ask("stop")
    assert work.finished(folder) == "stopped"
    for command in (("sessions",), ("show", folder.id), ("show", "last")):
        said = work.command(*command)
        assert (said.code, said.err) == (0, "")
        assert folder.id in said.out
    headers = [record for record in records_of(folder) if isinstance(record, Header)]
    assert headers[0].realtime_ns / 1e9 - time.time() > 2 * DAY_S
    assert_sound(folder)
