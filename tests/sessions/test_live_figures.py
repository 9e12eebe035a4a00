"""The live table of a journal that has ended and the comparison of its session say the same, figure for figure."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import pytest

from sessions.close.session_end import close_session
from sessions.disk.journal import JournalWriter, read_journal
from sessions.disk.records import AnyRecord, BlockEnded, BlockStarted, Header, RequestEnded, SessionEnded
from sessions.disk.session_folder import SessionFolder, create
from sessions.disk.store import Store
from sessions.verdict.comparison import compare
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_row import LoadRow
from sessions.watch.following import Follower
from sessions.watch.live import Live, MethodLive
from tests.sessions.eventful_session import GIB, PLAN, eventful_records, write_eventful
from tests.tui.journals import write_session
from tests.tui.load_journals import LoadScript, load_plan

KEPT = Path(__file__).with_name("written_by_0_1_0") / "sessions"


def followed(folder: SessionFolder) -> Live:
    follower = Follower(folder)
    while follower.poll():
        pass
    return follower.snapshot()


def live_figures(row: MethodLive) -> dict[str, object]:
    interval, spread = row.tok_s_interval, row.ratio_interval
    return {
        "requests": row.requests_done,
        "tok_s_mean": row.tok_s_mean,
        "tok_s_low": interval.low if interval else None,
        "tok_s_high": interval.high if interval else None,
        "ratio": row.ratio,
        "ratio_low": spread.low if spread else None,
        "ratio_high": spread.high if spread else None,
        "ttft_s_median": row.ttft_s,
        "energy_j_per_token": row.energy_j_per_token,
        "load_s_median": row.load_s,
        "peak_vram_bytes": row.peak_vram_bytes,
        "peak_rss_bytes": row.peak_rss_bytes,
        "in_effect": row.in_effect,
        "in_effect_reason": row.reason,
        "problem": row.error,
        "reference": row.reference,
    }


def same(value: object, other: object) -> bool:
    """Equal, numbers as far as the order of an addition goes."""
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=1e-12)
    return value == other and type(value) is type(other)


def assert_the_same(folder: SessionFolder) -> dict[str, ComparisonRow]:
    live = {row.name: live_figures(row) for row in followed(folder).methods}
    rows = {row.method: row for row in compare(Store(folder.path.parent), [(folder.id, None)]).rows}
    assert set(rows) <= set(live)
    for name, row in rows.items():
        final = {figure: getattr(row, figure) for figure in live[name]}
        # a killed block says in the frames what remains to be done
        final["problem"] = live[name]["problem"] if "`kasoku resume`" in row.problem else final["problem"]
        different = {
            figure: (value, final[figure]) for figure, value in live[name].items() if not same(value, final[figure])
        }
        assert not different, (name, different)
    return rows


@pytest.mark.parametrize("session", sorted(path.name for path in KEPT.iterdir()))
def test_of_sessions_that_the_version_before_wrote(tmp_path: Path, session: str) -> None:
    shutil.copytree(KEPT / session, tmp_path / "sessions" / session)
    rows = assert_the_same(SessionFolder(tmp_path / "sessions" / session))
    assert any(row.ratio for row in rows.values())


def test_of_a_session_with_a_failed_block_an_errored_request_and_a_resumed_block(tmp_path: Path) -> None:
    rows = assert_the_same(write_eventful(tmp_path))
    assert {name: row.requests for name, row in rows.items()} == {"one": 12, "two": 10, "breaks": 8, "absent": 0}
    assert rows["one"].peak_vram_bytes == 13 * GIB  # the GPUs peak at different moments; a killed attempt counts not
    assert rows["two"].in_effect is False
    assert rows["breaks"].energy_j_per_token is None
    assert rows["two"].energy_j_per_token is not None
    assert all(row.ratio_low for row in (rows["two"],))


def test_of_a_whole_session_on_two_gpus(tmp_path: Path) -> None:
    rows = assert_the_same(write_session(tmp_path))
    assert all(row.peak_vram_bytes and row.energy_j_per_token and row.tok_s_low for row in rows.values())


@pytest.mark.parametrize("ended", ["nothing", "a request", "a block", "the session", "a resume"])
def test_of_a_journal_that_is_cut_off_anywhere(tmp_path: Path, ended: str) -> None:
    """Its conductor is gone: a block without an end counts in neither."""
    folder, lock = create(tmp_path / "sessions", PLAN)
    journal = JournalWriter(folder.path)
    for record in cut(list(eventful_records(folder.id)), ended):
        journal.append(record)
    journal.close()
    close_session(folder, "interrupted")
    os.close(lock)
    assert followed(folder).status == ("finished" if ended == "the session" else "interrupted")
    assert_the_same(folder)


def cut(records: list[AnyRecord], after: str) -> list[AnyRecord]:
    """The records up to the middle of a block, after the last of these."""
    if after == "nothing":
        return records[: next(n for n, record in enumerate(records) if isinstance(record, BlockStarted)) + 1]
    kinds = {"a request": RequestEnded, "a block": BlockEnded, "the session": SessionEnded, "a resume": Header}
    places = [n for n, record in enumerate(records) if isinstance(record, kinds[after])]
    return records[: places[-1 if after in ("the session", "a resume") else len(places) // 2] + 1]


def test_the_reference_has_no_ratio_while_it_runs_nor_afterwards(tmp_path: Path) -> None:
    folder = write_session(tmp_path)
    follower = Follower(folder)
    seen = set()
    while follower.poll(1 << 14):
        seen |= {row.ratio for row in follower.snapshot().methods if row.reference is None}
    assert seen == {None}
    assert any(row.ratio for row in follower.snapshot().methods)


def test_a_running_block_counts_among_requests_and_not_among_blocks(tmp_path: Path) -> None:
    folder = write_session(tmp_path, ended=False)
    lock = folder.try_lock()
    assert lock is not None
    records = list(read_journal(folder.journal))
    live = followed(folder)
    running = next(row for row in live.methods if row.name == live.method)
    assert running.blocks_done == 2
    assert running.requests_done == sum(
        isinstance(record, RequestEnded) and record.method == running.name and record.request >= 0 for record in records
    )
    assert running.requests_done == 5
    assert running.tok_s_interval is None
    os.close(lock)


def test_the_points_of_a_load_are_those_of_its_comparison(tmp_path: Path) -> None:
    """Throughput and its interval, and the ratio at the primary point."""
    folder = write_session(tmp_path, load_plan(), written=LoadScript, oom=[("vllm", "c8")])
    live, rows = followed(folder), compare(Store(tmp_path / "sessions"), [(folder.id, None)]).rows
    assert len(live.points) == len(rows) == 8
    for point, row in zip(live.points, rows, strict=True):
        assert isinstance(row, LoadRow)
        low, high = (point.interval.low, point.interval.high) if point.interval else (None, None)
        shown = (point.point, point.method, point.tok_s_total, low, high, point.error)
        compared = (row.point, row.method, row.tok_s_total, row.tok_s_total_low, row.tok_s_total_high, row.problem)
        assert all(map(same, shown, compared)), (shown, compared)
        assert point.status == row.status
        assert point.requests_done >= row.requests  # ramp and tail too
    (vllm,) = (row for row in live.methods if row.name == "vllm")
    assert same(vllm.ratio, rows[1].ratio)
