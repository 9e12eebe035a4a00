"""Which requests count is one question with one answer, wherever it is asked."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from sessions.disk.frame_schema import REQUESTS, RUNS, TOKENS
from sessions.disk.records import AnyRecord, SessionEnded
from sessions.disk.session_folder import SessionFolder
from sessions.disk.store import Store
from sessions.frames.counting import (
    block_counts,
    counted_blocks,
    counted_requests,
    failed_attempts,
    request_counts,
    timed_and_ended_well,
)
from sessions.frames.judged_block import Block
from sessions.frames.latencies import latency_percentiles
from sessions.frames.response_tokens import ResponseTokens
from sessions.verdict.comparison import compare
from tests.sessions.eventful_session import PLAN, Script, write_eventful
from tui.read.comparison_series import pick_series
from tui.read.session_facts import read_session

FINISHES = ("length", "eos", "stopped", "error")
TOK_S = (None, float("nan"), float("inf"), 0.0, 12.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SessionFolder:
    return write_eventful(tmp_path_factory.mktemp("eventful"))


@pytest.fixture(scope="module")
def store(folder: SessionFolder) -> Store:
    return Store(folder.path.parent)


def frame(folder: SessionFolder, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder.frame(name))


def test_a_failed_block_that_was_begun_again_says_so() -> None:
    said = {"session": "s", "method": "slow", "point": ""}
    rows = [
        {**said, "block": 0, "attempt": 0, "status": "failed"},
        {**said, "block": 0, "attempt": 1, "status": "ok"},
        {**said, "block": 1, "attempt": 0, "status": "ok"},
        {**said, "block": 2, "attempt": 0, "status": "failed"},
        {**said, "block": 2, "attempt": 1, "status": "stalled"},
    ]

    found = failed_attempts(pl.DataFrame(rows)).select("block", "attempt", "again").rows()

    assert found == [(0, 0, True), (2, 0, True), (2, 1, False)]


def test_values_and_columns_give_the_same_answer() -> None:
    cases = list(itertools.product((False, True), FINISHES, TOK_S))
    rows = pl.DataFrame(cases, schema={name: REQUESTS[name] for name in ("warmup", "finish_reason", "e2e_tok_s")},
                        orient="row")  # fmt: skip
    asked = [bool(value) for value in rows.select(timed_and_ended_well().fill_null(False)).to_series()]
    assert asked == [request_counts(*case) for case in cases]
    assert sum(asked) == 2
    assert [status for status in ("ok", "failed", "oom", "stalled", "stopped", None) if block_counts(status)] == ["ok"]


def test_columns_that_an_older_kasoku_did_not_write_are_what_was_always_so() -> None:
    key = {"session": "s", "method": "one", "block": 0}
    runs = pl.DataFrame([dict.fromkeys(RUNS) | key | {"status": "ok"}], schema=RUNS)
    requests = pl.DataFrame(
        [
            dict.fromkeys(REQUESTS) | key | {"request": number, "e2e_tok_s": rate}
            for number, rate in ((0, 5.0), (1, 0.0))
        ],
        schema=REQUESTS,
    )
    assert counted_requests(runs, requests)["request"].to_list() == [0]
    assert counted_requests(runs.lazy(), requests.lazy()).collect()["request"].to_list() == [0]


def test_only_the_last_attempts_at_blocks_that_ended_well_count(folder: SessionFolder) -> None:
    counted = counted_blocks(frame(folder, "runs")).select("method", "block", "attempt")
    assert sorted(counted.iter_rows()) == [
        ("breaks", 0, 0), ("breaks", 2, 0), ("one", 0, 0), ("one", 1, 0), ("one", 2, 1),
        ("two", 0, 0), ("two", 1, 0), ("two", 2, 0),
    ]  # fmt: skip


def test_compare_draws_the_requests_that_its_table_counts(store: Store, folder: SessionFolder) -> None:
    rows = {row.method: row for row in compare(store, [(folder.id, None)]).rows}
    assert {name: row.requests for name, row in rows.items()} == {"one": 12, "two": 10, "breaks": 8, "absent": 0}
    for name, row in rows.items():
        drawn = pick_series(store, folder.id, name).tok_s
        assert len(drawn) == row.requests
        if row.tok_s_mean is not None:
            assert statistics.fmean(drawn) == pytest.approx(row.tok_s_mean)
            assert statistics.median(drawn) == pytest.approx(row.tok_s_median)


def test_the_sessions_own_screen_draws_the_same_requests(store: Store, folder: SessionFolder) -> None:
    laps = read_session(store, folder.id).laps
    assert {name: [lap.tok_s for lap in own] for name, own in laps.items()} == {
        name: pick_series(store, folder.id, name).tok_s for name in ("one", "two", "breaks")
    }


def test_the_summary_counts_the_same_requests(store: Store, folder: SessionFolder) -> None:
    means = {row.method: row.tok_s_mean for row in compare(store, [(folder.id, None)]).rows}
    assert {row.method: row.tok_s_mean for row in folder.read().summary} == pytest.approx(means)


def test_the_summary_says_whether_the_last_attempts_were_in_effect(tmp_path: Path) -> None:
    def records(session: str) -> Iterator[AnyRecord]:
        script = Script(session)
        yield from script.header()
        yield from script.block("one", 0, status="failed", in_effect=False)
        yield from script.header(resumed=True)
        yield from script.block("one", 0)
        yield SessionEnded(t=script.now, status="finished")

    folder = write_eventful(tmp_path, records)
    (row,) = compare(Store(folder.path.parent), [(folder.id, "one")]).rows
    (said,) = [row for row in folder.read().summary if row.method == "one"]
    assert (said.in_effect, said.statuses) == (row.in_effect, ["failed", "ok"]) == (True, ["failed", "ok"])


def test_gaps_of_a_request_that_erred_are_in_no_percentile_of_its_block(folder: SessionFolder) -> None:
    tokens, requests = frame(folder, "tokens"), frame(folder, "requests")
    erred = pl.struct("method", "block", "attempt", "request").is_in(
        requests.filter(pl.col("finish_reason") == "error").select(pl.struct("method", "block", "attempt", "request"))
        .to_series().implode()
    )  # fmt: skip
    late = tokens.with_columns(
        pl.when(erred).then(pl.col("t_ns") + 10**9 * pl.col("index")).otherwise(pl.col("t_ns")).alias("t_ns")
    )
    assert not late.equals(tokens)
    counted = counted_blocks(frame(folder, "runs"))
    (own, *before), (slow, *after) = (
        [
            part.sort(pl.all())
            for part in latency_percentiles(ResponseTokens.of(each.select(list(TOKENS))), requests, counted)
        ]
        for each in (tokens, late)
    )
    assert not own.equals(slow)
    assert [part.equals(other) for part, other in zip(before, after, strict=True)] == [True, True]


def test_a_blocks_flags_are_of_the_requests_that_count(folder: SessionFolder) -> None:
    requests = frame(folder, "requests").filter(pl.col("method") == "two", pl.col("block") == 0)
    endless = requests.with_columns(pl.lit(float("inf")).alias("e2e_tok_s"))
    telemetry = frame(folder, "telemetry")
    assert Block({}, requests, telemetry, PLAN).timed()["request"].to_list() == [0, 3]
    assert Block({}, endless, telemetry, PLAN).timed().is_empty()
