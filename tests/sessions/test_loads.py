"""Sessions with a load: each point a row, its requests in flight together, what fails at one left to that one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from sessions.disk.frame_schema import read_frame
from sessions.disk.records import BlockEnded
from sessions.disk.session_folder import SessionFolder
from sessions.frames.steady import steady_parts
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, records_of

CONCURRENCY = (1, 2, 4)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("loads"))


@pytest.fixture(scope="module")
def folder(work: Workplace) -> SessionFolder:
    """Two blocks of an engine that serves many, of one that cannot, and of one that runs out of memory at c4."""
    work.method("many", serves=True, rate=400.0)
    work.method("one", reference="many", rate=2000.0)
    work.method("small", serves=True, rate=2000.0, fault="memory_error", at="point", point="c4")
    return work.run(
        "many", "one", "small", concurrency="1,2,4", requests=6, blocks=2, warmup=1, max_new_tokens=6, prompt_tokens=5
    )


def frame(folder: SessionFolder, name: str) -> pl.DataFrame:
    return read_frame(folder.frame(name), name)


def statuses(folder: SessionFolder, method: str) -> dict[str, list[str]]:
    runs = frame(folder, "runs").filter(pl.col("method") == method)
    return {name: runs.filter(pl.col("point") == name)["status"].to_list() for name in runs["point"].unique()}


def test_each_point_of_each_block_is_a_row(folder: SessionFolder) -> None:
    runs = frame(folder, "runs").filter(pl.col("method") == "many").sort("block", "concurrency")
    assert runs.select("block", "point", "concurrency", "batch", "isl", "osl", "depth", "status").rows() == [
        (block, f"c{number}", number, None, 5, 6, 0, "ok") for block in (0, 1) for number in CONCURRENCY
    ]


def test_requests_say_their_point_and_are_as_many_as_planned(folder: SessionFolder) -> None:
    requests = frame(folder, "requests").filter(pl.col("method") == "many")
    counts = requests.group_by("block", "point", "warmup").len().sort("block", "point", "warmup")
    assert counts.rows() == [
        (block, f"c{number}", warmup, number * (1 if warmup else 3))
        for block in (0, 1)
        for number in CONCURRENCY
        for warmup in (False, True)
    ]
    assert requests["finish_reason"].unique().to_list() == ["length"]
    assert requests["output_tokens"].unique().to_list() == [6]
    assert requests.filter(~pl.col("warmup"))["request"].is_duplicated().sum() == 0


def test_so_many_are_in_flight_and_never_more(folder: SessionFolder) -> None:
    requests = frame(folder, "requests").filter(pl.col("method") == "many", ~pl.col("warmup"))
    for (_, concurrency), own in requests.group_by("block", "concurrency"):
        edges = [(t, 1) for t in own["start_ns"]] + [(t, -1) for t in own["returned_ns"]]
        now = most = 0
        for _, step in sorted(edges):
            now += step
            most = max(most, now)
        assert most == concurrency


def test_the_steady_part_has_all_slots_taken(folder: SessionFolder) -> None:
    requests = frame(folder, "requests").filter(pl.col("method") == "many")
    parts = steady_parts(requests).filter(pl.col("point") == "c4")
    assert parts["steady_from_ns"].null_count() == 0
    for row in parts.iter_rows(named=True):
        own = requests.filter(pl.col("block") == row["block"], pl.col("point") == "c4", ~pl.col("warmup"))
        assert row["steady_from_ns"] == own["start_ns"].sort()[3]
        ends = own.filter(pl.col("end_ns") >= own["start_ns"].max())["end_ns"]
        assert row["steady_to_ns"] == ends.min()
        inside = own.filter(pl.col("start_ns") >= row["steady_from_ns"], pl.col("end_ns") <= row["steady_to_ns"])
        assert own.filter("steady")["request"].sort().to_list() == inside["request"].sort().to_list()


def test_a_method_that_cannot_serve_a_point_is_unavailable_there_and_says_why(folder: SessionFolder) -> None:
    assert statuses(folder, "one") == {
        "c1": ["ok", "ok"],
        "c2": ["unavailable", "unavailable"],
        "c4": ["unavailable", "unavailable"],
    }
    runs = frame(folder, "runs").filter(pl.col("method") == "one", pl.col("point") == "c2")
    assert runs["error"].unique().to_list() == ["This engine generates one response at a time."]


def test_running_out_of_memory_at_a_point_leaves_the_others(folder: SessionFolder) -> None:
    assert statuses(folder, "small") == {"c1": ["ok", "ok"], "c2": ["ok", "ok"], "c4": ["oom", "oom"]}


def test_points_come_in_an_order_of_their_own_in_each_block(folder: SessionFolder) -> None:
    plan = folder.plan()
    requests = frame(folder, "requests").filter(~pl.col("warmup"), pl.col("method") == "many")
    for block in plan.order():
        if block.method != "many":
            continue
        own = requests.filter(pl.col("block") == block.block).sort("start_ns")
        assert own["point"].unique(maintain_order=True).to_list() == [plan.points[place].name for place in block.points]


def test_a_resume_measures_the_points_that_are_missing(work: Workplace, tmp_path: Path) -> None:
    once = tmp_path / "once"
    work.method("mends", serves=True, rate=2000.0, fault="memory_error", at="point", point="c2", once=str(once))
    folder = work.run("mends", concurrency="1,2", requests=2, max_new_tokens=4)
    assert statuses(folder, "mends") == {"c1": ["ok"], "c2": ["oom"]}
    work.resume(folder)
    runs = frame(folder, "runs").sort("attempt", "point")
    assert runs.select("point", "attempt", "status").rows() == [("c1", 0, "ok"), ("c2", 0, "oom"), ("c2", 1, "ok")]


@pytest.mark.parametrize("at", ["point", "warm-up"])
def test_a_point_that_kills_its_process_leaves_the_others(work: Workplace, at: str) -> None:
    """In the warm-up of the block's first point nothing has been timed yet: it is no failure to load for that."""
    load = {"concurrency": "1,2,3", "requests": 2, "warmup": 1, "max_new_tokens": 4}
    work.method("falls", serves=True, rate=2000.0)
    plan = work.plan("falls", **load)
    first = plan.points[plan.order()[0].points[0]].name
    work.method("falls", serves=True, rate=2000.0, fault="leave", at=at, point=first)
    folder = work.run("falls", **load)
    runs = frame(folder, "runs")
    last = {row["point"]: row for row in runs.sort("attempt").iter_rows(named=True)}
    assert {name: row["status"] for name, row in last.items()} == dict.fromkeys(("c1", "c2", "c3"), "ok") | {
        first: "failed"
    }
    assert "exited with status 7" in last[first]["error"]


def test_a_block_that_is_not_run_ends_once(work: Workplace) -> None:
    work.method("falls", serves=True, rate=2000.0, fault="leave", at="warm-up")
    folder = work.run("falls", concurrency="1,2", requests=2, blocks=2, warmup=1, max_new_tokens=4)
    ended = [record for record in records_of(folder) if isinstance(record, BlockEnded)]
    assert [record.block for record in ended] == [0, 0, 1]  # each of its points kills the first one
    assert ended[-1].error.startswith("Not run: this method could not be loaded in block 0")


def test_static_batches_begin_together(work: Workplace) -> None:
    work.method("batches", serves=True, rate=2000.0)
    folder = work.run("batches", batch="3", requests=2, max_new_tokens=4)
    requests = frame(folder, "requests")
    starts = requests.sort("start_ns")["start_ns"].to_list()
    assert len(starts) == 6
    assert (len(set(starts[:3])), len(set(starts[3:]))) == (1, 1)
    assert requests["batch"].unique().to_list() == [3]
    assert requests.sort("end_ns")["steady"].to_list()[:4] == [True] * 4  # then the last batch has a free slot


def test_an_open_loop_counts_from_when_a_request_was_due(work: Workplace) -> None:
    """The engine takes one at a time and 20 ms for each, but 100 a second are due: they queue."""
    work.method("queued", rate=200.0)
    folder = work.run("queued", rate="100", requests=1, max_new_tokens=4)
    requests = frame(folder, "requests").sort("request")
    assert requests.select("rate", "burstiness", "batch", "concurrency").unique().rows() == [(100.0, 1.0, None, None)]
    due, start = requests["scheduled_ns"].to_numpy(), requests["start_ns"].to_numpy()
    assert (start >= due).all()
    assert requests["queue_s"].to_numpy() == pytest.approx((start - due) / 1e9)
    assert requests["ttft_s"].to_numpy() == pytest.approx((requests["first_token_ns"].to_numpy() - due) / 1e9)
    assert requests["queue_s"][-1] > 1.0
