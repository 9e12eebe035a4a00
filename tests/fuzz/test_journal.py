"""Whatever a journal holds: its reader, the live view and the frames take it, and nothing is lost that is whole."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from sessions.disk import records
from sessions.disk.frame_schema import SCHEMAS
from sessions.disk.journal import JournalTail, NewerJournalError, read_journal
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.point import Point
from sessions.disk.records import AnyRecord, Text, Tokens
from sessions.frames.build import write_frames
from sessions.watch.reducer import LiveReducer
from tests.fuzz.anything import damaged, fields_of
from tests.fuzz.profile import fuzzed

PLAN = Plan(
    methods=[PlannedMethod(name=name, engine="e", environment="plain", reference=reference) for name, reference in
             (("one", None), ("two", "one"))],
    blocks=2,
    requests=2,
    gpu_sources=["gpu0"],
)  # fmt: skip
CHOSEN: dict[str, st.SearchStrategy[Any]] = {
    "method": st.sampled_from(("one", "one", "two", "unknown")),
    "block": st.integers(0, 1) | st.just(-1),
    "request": st.integers(-1, 1),
    "phase": st.sampled_from(("import", "load", "warmup", "timed", "evidence", "close")) | st.text(max_size=4),
    "status": st.sampled_from(("ok", "ok", "failed", "stopped")) | st.text(max_size=4),
    "finish": st.sampled_from(("length", "eos", "error", "stopped")),
    "path": st.sampled_from(("prefill", "decode")) | st.text(max_size=4),
    "window": st.integers(0, 2) | st.just(-1),
    "place": st.integers(-1, 2),
    "points": st.lists(st.integers(-1, 2), max_size=3),
    "edge": st.sampled_from(("start", "timed_start", "timed_end", "end")),
    "schema_version": st.sampled_from((1, 0, -1)),
    "gpus": st.sampled_from(([], ["gpu0"], ["gpu0", "gpu1"])),
}
READING = st.tuples(
    st.sampled_from(("gpu0", "gpu1", "host", "runner", "?")),
    st.sampled_from(("memory_used_bytes", "power_w", "energy_j", "throttle_reasons", "sm_clock_mhz", "cpu_percent",
                     "processes", "dram_active_percent", "?")),
    st.just("unit"),
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from((1e308, -1e308)),
    st.integers(0, 10**12) | st.sampled_from((2**63 - 1, -(2**63))),
    st.floats(0, 1e6),
    st.sampled_from(("ok", "the GPU has fallen off the bus")),
)  # fmt: skip


def record(kind: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    if kind is records.Telemetry:
        return fields_of(kind, **CHOSEN, rows=st.lists(READING, max_size=6))
    if kind in (Tokens, Text):
        what = "ids" if kind is Tokens else "texts"
        return (
            fields_of(kind, **CHOSEN)
            .map(lambda row: {**row, what: (row[what] * 9)[: len(row["times"])]})
            .filter(lambda row: len(row[what]) == len(row["times"]))
        )
    if kind is records.ManyTokens:
        times = st.lists(st.integers(0, 10**12), max_size=3)
        each = times.map(lambda own: (len(own) - 1, 0, own, [7] * len(own)))
        return fields_of(kind, **CHOSEN, tokens=st.lists(each, max_size=3))
    if kind is records.ReferenceScored:
        return st.lists(st.integers(0, 2), max_size=3).flatmap(reference)
    return fields_of(kind, **CHOSEN)


def reference(scored: list[int]) -> st.SearchStrategy[dict[str, Any]]:
    """A reference whose windows have so many scored ids, with scores of that shape on both paths or on none."""
    windows = [{"ids": [1, 2, 3], "scored": count, "stratum": "text"} for count in scored]
    nats = [st.lists(st.floats(-1e9, 1e9), min_size=count, max_size=count) for count in scored]
    path = st.fixed_dictionaries(
        {name: st.tuples(*nats) for name in ("nll", "margin")} | {"top1": st.just([[1] * count for count in scored])}
    )
    chosen = {"prefill": st.none() | path, "decode": st.none() | path}
    return fields_of(records.ReferenceScored, **CHOSEN, **chosen).map(lambda row: {**row, "windows": windows})


RECORDS = st.lists(st.one_of(*map(record, get_args(AnyRecord))), max_size=30)


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


POINTS = [Point(name=f"c{number}", concurrency=number, requests=1, warmup=1) for number in (1, 2)]
LOADED = replace(PLAN, points=POINTS)


def taken(raw: bytes, plan: Plan = PLAN) -> tuple[list[AnyRecord], int]:
    """The journal through all its readers: its records, and the number of lines that were none."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "journal.ndjson"
        path.write_bytes(raw)
        tail, reducer = JournalTail(path), LiveReducer(plan, "session")
        found: list[AnyRecord] = []
        try:
            while tail.offset < len(raw):
                for each in tail.read(4_096):
                    found.append(each)
                    reducer.feed(each)
                reducer.snapshot()
        except NewerJournalError:
            return found, tail.rejected
        frames = write_frames(folder, "session", plan, read_journal(path))
        said = sum(len(each.ids) for each in found if isinstance(each, Tokens))
        said += sum(len(each.ids) for many in found if isinstance(many, records.ManyTokens) for each in many.tokens)
        assert len(frames["tokens"]) == said
        assert {name: frame.schema for name, frame in frames.items()} == {
            name: dict(schema) for name, schema in SCHEMAS.items()
        }
        return found, tail.rejected


@given(RECORDS, st.sampled_from((PLAN, LOADED)))
@example([{"k": "machine", "t": 0, "machine": {}, "software": {}, "gpus": ["gpu0"]}], PLAN)
@fuzzed(0.5)
def test_records_of_valid_kinds_in_any_order_are_all_taken(rows: list[dict[str, Any]], plan: Plan) -> None:
    found, rejected = taken(lines(rows), plan)
    assert (len(found), rejected) == (len(rows), 0)


@given(st.data())
@fuzzed(0.5)
def test_damaged_records_are_taken_or_passed_over(data: st.DataObject) -> None:
    raw = data.draw(damaged(lines(data.draw(RECORDS))))
    found, rejected = taken(raw)
    assert len(found) + rejected <= raw.count(b"\n") + 1
