"""What has to be true of a saved session, whatever befell it: all that was measured is in it, and nothing else.

The journal is read here line by line as plain JSON, past the reader that the frames were built with.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import polars as pl

from sessions.disk.plan import Plan
from sessions.disk.session_folder import FRAMES, SessionFolder
from sessions.run.launch import missing

Line = dict[str, Any]
FACTS = {
    "loaded": ("load_s", "weights_bytes", "dtype", "threads"),
    "memory": ("peak_allocated_bytes", "peak_reserved_bytes", "kv_reserved_bytes", "peak_rss_bytes"),
    "evidence": ("in_effect",),
    "block_end": ("status", "error"),
}


def whole_lines(folder: SessionFolder) -> list[Line]:
    """Every whole line of the journal that is JSON."""
    raw = folder.journal.read_bytes() if folder.journal.exists() else b""
    return [json.loads(line) for line in raw.split(b"\n")[:-1]]


def frames_of(folder: SessionFolder) -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(folder.frame(name)) for name in FRAMES}


def assert_sound(folder: SessionFolder) -> None:
    """Frames and journal hold the same: every line is in a frame, every row and every figure in a line."""
    lines, frames = _attempts(whole_lines(folder)), frames_of(folder)
    _assert_tokens(lines, frames["tokens"])
    _assert_requests(lines, frames["requests"])
    _assert_runs(lines, frames["runs"], folder.plan())
    _assert_telemetry(lines, frames["telemetry"])
    _assert_summary(folder, frames["runs"])


def _attempts(lines: list[Line]) -> list[Line]:
    """The lines, those of a block with the number of their attempt: a block is begun anew in each."""
    begun: dict[tuple[str, int], int] = {}
    over: set[tuple[str, int]] = set()
    for line in lines:
        place = (line.get("method", ""), line.get("block", -1))
        if line["k"] == "header":
            over |= begun.keys()
        elif line["k"] == "block" or (line["k"] == "block_end" and (place in over or place not in begun)):
            begun[place] = begun.get(place, -1) + 1
            over.discard(place)
        if "method" in line:
            line["attempt"] = begun.get(place, 0)
        if line["k"] == "block_end":
            over.add(place)
    return lines


def pieces(line: Line) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """Request, index, times and ids of what a line says of tokens."""
    if line["k"] == "tokens":
        yield line["request"], line["index"], line["times"], line["ids"]
    elif line["k"] == "many":
        yield from line["tokens"]


def _assert_tokens(lines: list[Line], tokens: pl.DataFrame) -> None:
    said = [
        (line["method"], line["block"], line["attempt"], request, index + place, t, token)
        for line in lines
        for request, index, times, ids in pieces(line)
        for place, (t, token) in enumerate(zip(times, ids, strict=True))
    ]
    kept = tokens.select("method", "block", "attempt", "request", "index", "t_ns", "token_id").rows()
    assert kept == said, f"{len(said)} tokens in the journal, {len(kept)} in the frame"


def _assert_requests(lines: list[Line], requests: pl.DataFrame) -> None:
    times: dict[tuple[Any, ...], list[int]] = {}
    said: dict[tuple[Any, ...], Line] = {}
    for line in lines:
        key = (line.get("method"), line.get("block"), line.get("attempt"), line.get("request"))
        if line["k"] == "request":
            said[key] = {"start_ns": line["t"], "warmup": line.get("warmup", False), "finish_reason": "stopped"}
        elif line["k"] == "request_end":
            said[key]["finish_reason"] = line["finish"]
        for request, _, came, _ in pieces(line):
            times.setdefault((*key[:3], request), []).extend(came)
    assert len(requests) == len(said), f"{len(said)} requests in the journal, {len(requests)} in the frame"
    for row in requests.to_dicts():
        key = (row["method"], row["block"], row["attempt"], row["request"])
        own = times.get(key, [])
        assert {name: row[name] for name in said[key]} == said[key], key
        assert row["output_tokens"] == len(own), key
        assert (row["first_token_ns"], row["end_ns"]) == ((own[0], own[-1]) if own else (None, None)), key
        if not own:
            assert (row["ttft_s"], row["e2e_s"], row["decode_tok_s"], row["e2e_tok_s"]) == (None,) * 4, key


def _assert_runs(lines: list[Line], runs: pl.DataFrame, plan: Plan) -> None:
    said: dict[tuple[str, int, int], Line] = {}
    places: dict[tuple[str, int, int], set[int]] = {}
    ends: dict[tuple[str, int, int, str], Line] = {}
    for line in lines:
        key = (line.get("method", ""), line.get("block", -1), line.get("attempt", -1))
        if line["k"] in ("block", "block_end"):
            said.setdefault(key, {})
            places.setdefault(key, set(line.get("points") or range(len(plan.points))))
        if line["k"] in FACTS:
            row = said[key]
            row |= {name: line.get(name) for name in FACTS[line["k"]]}
            if line["k"] == "block_end":
                row["error"] = line.get("error", "")
        if line["k"] == "point_end":
            ends[(*key, plan.points[line["place"]].name)] = {"status": line["status"], "error": line.get("error", "")}
        if line["k"] == "block_end" and line.get("void"):
            ends = {end: facts for end, facts in ends.items() if end[:3] != key}
    kept = {(row["method"], row["block"], row["attempt"], row["point"]): row for row in runs.to_dicts()}
    rows = {(*key, plan.points[place].name) for key, own in places.items() for place in own}
    assert kept.keys() == rows, "a row for every point of a block that was begun or spoken of, and for no other"
    for whole, row in kept.items():
        facts = said[whole[:3]] | ends.get(whole, {})
        if "status" not in facts:
            assert (row["status"], "Interrupted" in row["error"]) == ("stopped", True), whole
        for name in (name for names in FACTS.values() for name in names if name not in ("status", "error")):
            assert row[name] == facts.get(name), (whole, name)
        assert {name: row[name] for name in facts} == facts, whole


def _assert_telemetry(lines: list[Line], telemetry: pl.DataFrame) -> None:
    said = [(row[0], row[1], row[3], row[4]) for line in lines if line["k"] == "telemetry" for row in line["rows"]]
    kept = telemetry.select("source", "metric", "value", "t_ns").rows()
    assert len(kept) == len(said), f"{len(said)} readings in the journal, {len(kept)} in the frame"
    assert kept == [(*row[:2], None if row[2] is None else float(row[2]), row[3]) for row in said]


def _assert_summary(folder: SessionFolder, runs: pl.DataFrame) -> None:
    """A mean in session.json is of a method of which a block ended well."""
    ended_well = set(runs.filter(pl.col("status") == "ok")["method"].to_list())
    for row in folder.read().summary:
        assert row.tok_s_mean is None or row.method in ended_well, row


def assert_completed(folder: SessionFolder) -> None:
    """Every timed request of the plan ran to its end, at its full length, and counts once."""
    plan = folder.plan()
    session = folder.read()
    assert (session.status, missing(folder)) == ("finished", []), session.error
    frames = frames_of(folder)
    well = frames["runs"].filter(
        pl.col("attempt") == pl.col("attempt").max().over("method", "block", "point"), pl.col("status") == "ok"
    )
    keys = ["method", "block", "attempt", "point"]
    whole = frames["requests"].join(well, on=keys, how="semi").filter(~pl.col("warmup"))
    planned = [(row.method, request) for row in plan.order(session.goals) for request in row.requests]
    assert sorted(whole.select("method", "request").rows()) == sorted(planned)
    assert set(whole["output_tokens"]) == {plan.sampling.max_new_tokens}
