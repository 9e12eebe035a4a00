"""kill -9 of each process at random moments, and a conductor that is stopped for a while.

KASOKU_TEST_KILLS says how many moments each process is killed at (default 2); they are drawn from a seed, and a test
that failed is repeated by its number. benchmarks/faults.py is the same by the hundred, and with real engines.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from itertools import pairwise

import polars as pl
import psutil
import pytest

from sessions.disk.records import BlockPhase, Tokens
from sessions.disk.session_folder import SessionFolder
from sessions.run.launch import missing
from tests.sessions.processes import processes_of, until
from tests.sessions.soundness import assert_completed, assert_sound
from tests.sessions.victims import VICTIMS, struck_while_live
from tests.sessions.workplace import (
    KASOKU,
    Workplace,
    assert_nothing_left,
    conductor_of,
    records_of,
    runner_of,
    runs_of,
    warden_of,
)

KILLS = int(os.environ.get("KASOKU_TEST_KILLS", "2"))
LONGEST_S = 2.5  # about what the session takes
PREPARATION_S = 0.8  # and its preparation
STOPPED_S = 4.0
SMALL = {"requests": 2, "blocks": 2, "warmup": 1, "max_new_tokens": 24}


def methods(work: Workplace) -> tuple[str, str]:
    return work.method("one", rate=200.0), work.method("two", reference="one", rate=300.0)


MOMENTS = [(victim, number) for victim in VICTIMS for number in range(KILLS)]


def kill_at_a_random_moment(folder: SessionFolder, victim: str, number: int) -> bool:
    """False where the session had ended before."""
    latest = PREPARATION_S if victim == "preparation" else LONGEST_S
    moment = time.monotonic() + random.Random(f"{victim} {number}").uniform(0.0, latest)  # noqa: S311
    until(lambda: time.monotonic() >= moment or not folder.is_live(), "the moment has come", 30)
    return struck_while_live(folder, victim, signal.SIGKILL) is not None


@pytest.mark.parametrize(("victim", "number"), MOMENTS)
def test_a_kill_at_any_moment_leaves_a_session_that_opens_and_can_be_completed(
    work: Workplace, victim: str, number: int
) -> None:
    folder = work.launch(*methods(work), **SMALL)
    killed = kill_at_a_random_moment(folder, victim, number)
    status = work.finished(folder)
    assert_nothing_left(folder)
    after = {"interrupted", "finished"} if victim == "conductor" else {"finished", "failed"}
    assert status in (after if killed else {"finished"}), folder.read().error
    if status == "finished" and victim == "conductor":
        assert missing(folder) == [], "only one that had all can be finished without its conductor"
    said = work.command("show", folder.id)
    assert (said.code, said.err) == (0, "")
    assert f"{folder.id} {status}" in said.out
    assert_sound(folder)
    said = work.command("resume", folder.id)
    assert said.code == 0, said.out + said.err
    assert_nothing_left(folder)
    assert_completed(folder)
    assert_sound(folder)


@pytest.mark.parametrize("victim", ["conductor", "runner"])
@pytest.mark.parametrize("number", range(max(1, KILLS // 2)))
def test_so_does_one_with_many_requests_in_flight(work: Workplace, victim: str, number: int) -> None:
    work.method("many", serves=True, rate=100.0)
    folder = work.launch("many", **SMALL, concurrency="1,3")
    kill_at_a_random_moment(folder, victim, 100 + number)
    work.finished(folder)
    assert_nothing_left(folder)
    assert_sound(folder)
    said = work.command("resume", folder.id)
    assert said.code == 0, said.out + said.err
    assert_nothing_left(folder)
    assert_completed(folder)
    assert_sound(folder)


@pytest.mark.parametrize("number", range(KILLS))
def test_a_viewer_that_is_killed_takes_nothing_along(work: Workplace, number: int) -> None:
    arguments = work.options(*methods(work), **SMALL)
    viewer = subprocess.Popen([str(KASOKU), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = until(lambda: next(iter(work.sessions()), None), "there is a session")
    until(lambda: folder.is_live() or viewer.poll() is not None, "its conductor has begun")
    moment = time.monotonic() + random.Random(f"viewer {number}").uniform(0.0, LONGEST_S)  # noqa: S311
    until(lambda: time.monotonic() >= moment or viewer.poll() is not None, "the moment has come")
    viewer.kill()
    viewer.wait()
    assert work.finished(folder) == "finished"
    assert_nothing_left(folder)
    assert_completed(folder)
    assert_sound(folder)


def test_a_runner_that_is_killed_is_one_failed_row_and_the_others_run(work: Workplace) -> None:
    folder = work.launch(*methods(work), **SMALL | {"max_new_tokens": 200})
    runner = until(lambda: runner_of(folder) if timed(folder) else None, "the timed part runs")
    runner.kill()
    assert work.finished(folder) == "finished"
    rows = runs_of(folder)
    assert [row["status"] for row in rows] == ["failed", "ok", "ok", "ok"]
    assert rows[0]["error"] == "The runner was killed by signal 9 (SIGKILL) in the phase 'timed'."


def test_a_warden_that_is_killed_takes_its_runner_along_and_is_one_failed_row(work: Workplace) -> None:
    pids = work.home.parent / "pids"
    work.method("parent", fault="fork_away", pids=str(pids), rate=50.0)
    folder = work.launch("parent", work.method("two"), max_new_tokens=500, seed=3)
    until(lambda: pids.exists() and len(pids.read_text().split()) == 2, "it has forked away")
    warden = warden_of(folder)
    assert warden is not None
    warden.kill()
    left = [int(pid) for pid in pids.read_text().split()]
    until(lambda: not any(psutil.pid_exists(pid) for pid in left), "the conductor reaps what was forked away", 20)
    assert work.finished(folder) == "finished"
    row = next(row for row in runs_of(folder) if row["method"] == "parent")
    assert (row["status"], "died together with its warden" in row["error"]) == ("failed", True)
    assert_nothing_left(folder)


def timed(folder: SessionFolder) -> bool:
    return any(isinstance(record, BlockPhase) and record.phase == "timed" for record in records_of(folder))


def test_a_stopped_conductor_is_not_felt_by_the_timed_loop_and_goes_on_afterwards(work: Workplace) -> None:
    """Stopped for longer than the token deadline, while tokens flow at 200 a second."""
    work.method("long", rate=200.0)
    folder = work.launch("long", max_new_tokens=1_400, token_deadline_s=STOPPED_S / 2)
    until(lambda: sum(len(r.ids) for r in records_of(folder) if isinstance(r, Tokens)) > 20, "tokens flow")
    conductor = conductor_of(folder)
    began = time.perf_counter_ns()
    conductor.send_signal(signal.SIGSTOP)
    until(lambda: time.perf_counter_ns() > began + STOPPED_S * 1e9, "it has been stopped for long enough")
    ended = time.perf_counter_ns()
    assert runner_of(folder) is not None, "it still generates"
    conductor.send_signal(signal.SIGCONT)
    assert work.finished(folder) == "finished"
    times = pl.read_parquet(folder.frame("tokens"))["t_ns"].to_list()
    assert len(times) == 1_400
    assert sum(began < t < ended for t in times) > 0.5 * 200 * STOPPED_S, "it generated as before"
    # one that waited for the conductor would give none for most of that time
    assert max(later - earlier for earlier, later in pairwise(times)) < STOPPED_S / 2 * 1e9
    row = runs_of(folder)[0]
    assert (row["status"], row["error"]) == ("ok", "")
    assert any(flag.startswith("telemetry gaps") for flag in row["flags"]), "what nobody sampled is said"
    assert_sound(folder)
    assert not processes_of(folder.path)
