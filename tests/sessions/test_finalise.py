"""The frames against the journal: every raw value is there, every derived one is computed again in plain Python."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sessions.close.session_end import recover
from sessions.disk.frame_schema import SCHEMAS, schema_version
from sessions.disk.journal import read_journal
from sessions.disk.records import (
    SCHEMA_VERSION,
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Header,
    RequestEnded,
    RequestStarted,
    Telemetry,
    Tokens,
)
from sessions.disk.session_folder import FRAMES, SessionFolder
from sessions.disk.store import Store
from sessions.frames.build import write_frames
from sessions.verdict.comparison import compare
from sessions.watch.following import Follower
from tests.sessions.conftest import opened
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, conductor_of, make_model, records_of

WORDS = [f"word{number}" for number in range(63)] + ["\x1b[31m"]
Key = tuple[str, int, int]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("finalise")):
        make_model(work.model, WORDS)
        yield work


@pytest.fixture(scope="module")
def folder(work: Workplace) -> SessionFolder:
    """A session with all there can be: warm-ups, a failed block, one that was killed, and a resume of both."""
    work.method("one")
    work.method("two", reference="one", rate=150.0, step=3)
    work.method("breaks", reference="one", fault="exception", request=1, once=str(work.home / "once"))
    folder = work.launch("one", "two", "breaks", requests=5, blocks=2, warmup=1, max_new_tokens=12, seed=4)

    def two_is_measuring() -> bool:
        own = [record for record in records_of(folder) if getattr(record, "method", "") == "two"]
        return sum(isinstance(record, Tokens) for record in own) > 2 and not isinstance(own[-1], BlockEnded)

    until(two_is_measuring, "a block of two is under way")
    conductor_of(folder).kill()
    assert work.finished(folder) == "interrupted"
    work.resume(folder)
    assert folder.read().status == "finished"
    return folder


@pytest.fixture(scope="module")
def frames(folder: SessionFolder) -> dict[str, list[dict[str, Any]]]:
    return {name: pl.read_parquet(folder.frame(name)).to_dicts() for name in FRAMES}


@pytest.fixture(scope="module")
def lines(folder: SessionFolder) -> list[dict[str, Any]]:
    """The journal as plain JSON, each line with the attempt that it belongs to."""
    attempts: dict[tuple[str, int], int] = {}
    rows = []
    for line in folder.journal.read_text().splitlines():
        row = json.loads(line)
        place = row.get("method"), row.get("block")
        if row["k"] == "block":
            attempts[place] = attempts.get(place, -1) + 1
        rows.append(row | {"attempt": attempts.get(place, 0)})
    return rows


def key_of(row: dict[str, Any]) -> Key:
    return row["method"], row["block"], row["attempt"]


def of(lines: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["k"] == kind]


@pytest.fixture(scope="module")
def tokens(lines: list[dict[str, Any]]) -> dict[tuple[Key, int], list[tuple[int, int]]]:
    """(t, id) of every token, by attempt and request."""
    found: dict[tuple[Key, int], list[tuple[int, int]]] = defaultdict(list)
    for line in of(lines, "tokens"):
        assert line["index"] == len(found[key_of(line), line["request"]])
        found[key_of(line), line["request"]] += zip(line["times"], line["ids"], strict=True)
    return found


def test_the_session_has_all_that_this_file_looks_at(frames: dict[str, Any]) -> None:
    statuses = {key_of(row): row["status"] for row in frames["runs"]}
    assert len(statuses) == 8, statuses
    assert sorted(statuses.values()) == ["failed", *["ok"] * 6, "stopped"]
    assert {row["finish_reason"] for row in frames["requests"]} >= {"length", "error"}
    assert max(row["attempt"] for row in frames["runs"]) == 1


def test_every_whole_line_of_tokens_is_in_the_frame(frames: dict[str, Any], tokens: dict[Any, Any]) -> None:
    found = [(key_of(row), row["request"], row["index"], row["t_ns"], row["token_id"]) for row in frames["tokens"]]
    expected = [
        (key, request, index, t, token)
        for (key, request), pairs in tokens.items()
        for index, (t, token) in enumerate(pairs)
    ]
    assert len(found) == len(expected) > 200
    assert found == expected
    assert {row["sequence"] for row in frames["tokens"]} == {0}


def test_every_reading_of_telemetry_is_in_the_frame(frames: dict[str, Any], lines: list[dict[str, Any]]) -> None:
    names = ("source", "metric", "unit", "value", "t_ns", "call_us", "status")
    expected = [tuple(row) for line in of(lines, "telemetry") for row in line["rows"]]
    assert [tuple(row[name] for name in names) for row in frames["telemetry"]] == expected
    assert {source for source, *_ in expected} >= {"host", "runner"}


def test_every_request_is_a_row_with_what_the_journal_says_of_it(
    frames: dict[str, Any], lines: list[dict[str, Any]]
) -> None:
    ends = {(key_of(line), line["request"]): line for line in of(lines, "request_end")}
    begun = of(lines, "request")
    assert len(frames["requests"]) == len(begun) > 12
    for row, line in zip(frames["requests"], begun, strict=True):
        end = ends.get((key_of(line), line["request"]), {})
        assert (key_of(row), row["request"], row["warmup"]) == (key_of(line), line["request"], line["request"] < 0)
        assert (row["start_ns"], row["prompt_tokens"], row["batch"]) == (line["t"], line["prompt_tokens"], 1)
        assert row["finish_reason"] == end.get("finish", "stopped")
        assert row["returned_ns"] == end.get("t")


def close_to(value: float | None, expected: float | None) -> bool:
    if value is None or expected is None:
        return value is expected
    return math.isclose(value, expected, rel_tol=1e-9)


def percentile(values: list[int], share: float) -> float | None:
    """By linear interpolation between neighbours, of gaps in ns, in seconds."""
    if not values:
        return None
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low, high = math.floor(place), math.ceil(place)
    return (ordered[low] + (ordered[high] - ordered[low]) * (place - low)) / 1e9


def gaps(pairs: list[tuple[int, int]]) -> list[int]:
    return [later - earlier for (earlier, _), (later, _) in pairwise(pairs)]


def test_every_derived_column_of_requests_is_what_its_definition_says(
    frames: dict[str, Any], tokens: dict[Any, Any]
) -> None:
    rated = 0
    for row in frames["requests"]:
        pairs = tokens.get((key_of(row), row["request"]), [])
        times = [t for t, _ in pairs]
        n, start = len(times), row["start_ns"]
        assert row["output_tokens"] == n
        assert row["first_token_ns"] == (times[0] if times else None)
        assert row["end_ns"] == (times[-1] if times else None)
        assert close_to(row["ttft_s"], (times[0] - start) / 1e9 if times else None)
        assert close_to(row["e2e_s"], (times[-1] - start) / 1e9 if times else None)
        assert close_to(row["e2e_tok_s"], n / ((times[-1] - start) / 1e9) if times else None)
        assert close_to(row["decode_tok_s"], (n - 1) / ((times[-1] - times[0]) / 1e9) if n > 1 else None)
        assert close_to(row["itl_s_p50"], percentile(gaps(pairs), 0.5))
        assert close_to(row["itl_s_p99"], percentile(gaps(pairs), 0.99))
        assert row["text"] == (" ".join(WORDS[token] for _, token in pairs) if pairs else None)
        assert row["energy_j"] is None
        assert "energy_j" in json.loads(row["missing"])
        rated += row["e2e_tok_s"] is not None
    assert rated > 15


def test_every_derived_column_of_runs_is_what_its_definition_says(
    frames: dict[str, Any], lines: list[dict[str, Any]], tokens: dict[Any, Any], folder: SessionFolder
) -> None:
    def one(kind: str, key: Key, **fields: object) -> dict[str, Any]:
        found = [
            line
            for line in of(lines, kind)
            if key_of(line) == key and all(line.get(name) == value for name, value in fields.items())
        ]
        return found[0] if found else {}

    def seconds(key: Key, first: str, then: str) -> float | None:
        a, b = one("block_phase", key, phase=first), one("block_phase", key, phase=then)
        return (b["t"] - a["t"]) / 1e9 if a and b else None

    newest = {(row["method"], row["block"]): row["attempt"] for row in frames["runs"]}
    of_method: dict[str, list[int]] = defaultdict(list)
    for row in frames["runs"]:
        key = key_of(row)
        own = [
            gap
            for request in frames["requests"]
            if key_of(request) == key and not request["warmup"] and request["finish_reason"] in ("length", "eos")
            for gap in gaps(tokens.get((key, request["request"]), []))
        ]
        if row["status"] == "ok" and newest[row["method"], row["block"]] == row["attempt"]:
            of_method[row["method"]] += own
        started, loaded, memory = one("block", key), one("loaded", key), one("memory", key)
        ended, evidence = one("block_end", key), one("evidence", key)
        assert (row["started_ns"], row["position"]) == (started["t"], started["position"])
        assert row["ended_ns"] == ended.get("t")
        assert row["status"] == ended.get("status", "stopped")
        assert row["error"] == ended["error"] if "error" in ended else row["status"] in ("ok", "stopped")
        assert row["load_s"] == loaded.get("load_s")
        assert close_to(row["warmup_s"], seconds(key, "warmup", "timed"))
        assert close_to(row["timed_s"], seconds(key, "timed", "evidence"))
        assert row["peak_rss_bytes"] == memory.get("peak_rss_bytes")
        assert row["in_effect"] == evidence.get("in_effect")
        assert (json.loads(row["evidence"]) if row["evidence"] else None) == evidence.get("evidence")
        assert close_to(row["itl_s_p50"], percentile(own, 0.5))
        assert close_to(row["itl_s_p99"], percentile(own, 0.99))
        prompts = of(lines, "prepared")[0]["prompts"]
        assert row["prompt_digest"] == hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
        assert row["reference"] == (None if row["method"] == "one" else "one")
        for name in ("energy_j", "timed_energy_j", "peak_vram_bytes", "idle_w", "power_integral_j"):
            assert row[name] is None, "there is no GPU here, so nothing may be said of one"
        assert set(json.loads(row["missing"])) >= {"energy_j", "peak_vram_bytes"}
    for row in frames["runs"]:
        assert close_to(row["method_itl_s_p50"], percentile(of_method[row["method"]], 0.5))
        assert close_to(row["method_itl_s_p99"], percentile(of_method[row["method"]], 0.99))
    assert of_method["two"]


def test_the_summary_repeats_what_the_frames_say(frames: dict[str, Any], folder: SessionFolder) -> None:
    for row in folder.read().summary:
        runs = [run for run in frames["runs"] if run["method"] == row.method]
        assert row.statuses == [run["status"] for run in runs]
        good = {key_of(run) for run in runs if run["status"] == "ok"}
        rates = [
            request["e2e_tok_s"]
            for request in frames["requests"]
            if key_of(request) in good and not request["warmup"] and request["finish_reason"] == "length"
        ]
        assert row.tok_s_mean is not None
        assert math.isclose(row.tok_s_mean, sum(rates) / len(rates), rel_tol=1e-9)
        assert len(rates) == 5
        assert row.in_effect is True


def test_building_the_frames_twice_gives_the_same(folder: SessionFolder, tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write_frames(tmp_path / place, folder.id, folder.plan(), read_journal(folder.journal))
    for name in FRAMES:
        first, second = (pl.read_parquet(tmp_path / place / f"{name}.parquet") for place in ("a", "b"))
        assert first.equals(second)
        assert first.equals(pl.read_parquet(folder.frame(name)))
    assert recover(folder) == "finished"


def test_frames_that_are_put_down_in_parts_are_the_same(
    folder: SessionFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions.frames.journal_frames.CHUNK_ROWS", 10)
    monkeypatch.setattr("sessions.frames.response_tokens.MOST_TOKENS", 12)
    leftover = tmp_path / "tokens.parquet.parts" / "000000.parquet"
    leftover.parent.mkdir()
    leftover.write_text("of a process that was killed")
    built = write_frames(tmp_path, folder.id, folder.plan(), read_journal(folder.journal))
    assert "tokens" not in built
    assert pl.scan_parquet(folder.frame("tokens")).select(pl.len()).collect().item() > 24
    for name in FRAMES:
        assert pl.read_parquet(tmp_path / f"{name}.parquet").equals(pl.read_parquet(folder.frame(name))), name
        assert schema_version(tmp_path / f"{name}.parquet") == SCHEMA_VERSION
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{name}.parquet" for name in FRAMES)


@pytest.mark.parametrize("name", FRAMES)
def test_the_columns_are_the_contracts_with_their_types(folder: SessionFolder, name: str) -> None:
    frame = pl.read_parquet(folder.frame(name))
    assert dict(frame.schema) == dict(pl.Schema(SCHEMAS[name]))
    assert frame["session"].unique().to_list() == ([] if name == "fidelity" else [folder.id])


CONTRACT = {
    "runs": "session method reference block engine environment model device status error load_s warmup_s weights_bytes"
    " peak_allocated_bytes peak_reserved_bytes peak_vram_bytes vram_source kv_reserved_bytes peak_rss_bytes energy_j"
    " idle_w in_effect evidence flags missing started_ns ended_ns",
    "requests": "session method block request warmup batch sequence prompt_index prompt_tokens output_tokens"
    " finish_reason start_ns first_token_ns end_ns ttft_s e2e_s decode_tok_s e2e_tok_s energy_j text flags missing",
    "tokens": "session method block request sequence index t_ns token_id",
    "telemetry": "session t_ns source metric unit value call_us status",
    "fidelity": "session method block path window tokens nll nll_reference top1_equal top1_equal_clear clear_tokens kl"
    " worst missing stratum kl_bound nll_each nll_reference_each non_finite",
}


@pytest.mark.parametrize("name", CONTRACT)
def test_no_name_of_the_contract_is_missing(name: str) -> None:
    assert set(CONTRACT[name].split()) <= set(SCHEMAS[name])


def hand_written(*records: AnyRecord) -> list[AnyRecord]:
    return [Header(t=0, schema_version=1, session="s", realtime_ns=0), *records]


def test_a_response_of_two_sequences_is_two_rows(folder: SessionFolder, tmp_path: Path) -> None:
    place: dict[str, Any] = {"method": "one", "block": 0}
    built = write_frames(
        tmp_path,
        "s",
        folder.plan(),
        hand_written(
            BlockStarted(t=1, **place, position=1, of=1),
            BlockPhase(t=2, **place, phase="timed"),
            RequestStarted(t=10, **place, request=0, batch=2, prompt_tokens=4),
            Tokens(t=20, **place, request=0, index=0, times=[20], ids=[1], sequence=0),
            Tokens(t=21, **place, request=0, index=0, times=[21], ids=[2], sequence=1),
            Tokens(t=40, **place, request=0, index=1, times=[30, 40], ids=[3, 4], sequence=1),
            RequestEnded(t=41, **place, request=0, finish="length", output_tokens=4),
            BlockEnded(t=50, **place, status="ok"),
            Telemetry(t=60, rows=[("host", "cpu_percent", "%", None, 60, 1.0, "gone")]),
        ),
    )
    columns = ("sequence", "output_tokens", "first_token_ns", "end_ns")
    assert built["requests"].select(columns).rows() == [(0, 1, 20, 20), (1, 3, 21, 40)]
    assert built["requests"]["decode_tok_s"].to_list() == [None, pytest.approx(2 / 19e-9)]
    assert built["telemetry"].select("value", "status").rows() == [(None, "gone")]


def test_a_request_without_tokens_has_no_rate_and_says_why(folder: SessionFolder, tmp_path: Path) -> None:
    place: dict[str, Any] = {"method": "one", "block": 0}
    built = write_frames(
        tmp_path,
        "s",
        folder.plan(),
        hand_written(
            BlockStarted(t=1, **place, position=1, of=1),
            RequestStarted(t=10, **place, request=0, prompt_tokens=4),
        ),
    )
    row = built["requests"].to_dicts()[0]
    assert (row["output_tokens"], row["finish_reason"]) == (0, "stopped")
    for name in ("first_token_ns", "end_ns", "ttft_s", "e2e_s", "decode_tok_s", "e2e_tok_s", "text"):
        assert row[name] is None
    assert built["runs"].to_dicts()[0]["status"] == "stopped"
    assert "`kasoku resume`" in built["runs"].to_dicts()[0]["error"]


def test_the_live_table_ends_with_the_numbers_of_the_comparison(work: Workplace, folder: SessionFolder) -> None:
    follower = Follower(folder)
    while follower.poll():
        pass
    live = {row.name: row for row in follower.snapshot().methods}
    compared = {row.method: row for row in compare(Store(folder.path.parent), [(folder.id, None)]).rows}
    assert sorted(live) == sorted(compared) == ["breaks", "one", "two"]
    for name, row in compared.items():
        shown = live[name]
        assert close_to(shown.tok_s_mean, row.tok_s_mean)
        assert close_to(shown.ttft_s, row.ttft_s_median)
        assert close_to(shown.ratio, row.ratio)
        assert (shown.in_effect, shown.peak_rss_bytes) == (row.in_effect, row.peak_rss_bytes)
        assert (shown.blocks_done, shown.requests_done, row.requests) == (2, 5, 5)
    assert (follower.snapshot().status, follower.ended, follower.abandoned) == ("finished", True, False)
