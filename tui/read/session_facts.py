"""One session read in full, for the Session screen. Called in a thread: it uses polars and the disk."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from methods.base.log_tail import log_tail
from sessions.close.session_end import recover
from sessions.disk.frame_schema import SCHEMAS, FrameError, read_frame
from sessions.disk.journal import prepared
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder
from sessions.frames.block_phases import Segment, method_segments
from sessions.frames.block_spans import BlockSpan, block_spans
from sessions.frames.counting import counted_requests, in_their_order, last_attempts, with_stretch
from sessions.frames.timeline import spans
from sessions.frames.tracks import TRACKS, TrackKind
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.fidelity_figures import Path
from sessions.verdict.fidelity_windows import Scored, by_method
from sessions.verdict.stretches import stretches_told
from sessions.watch.laps import Lap
from tui.read.comparison_series import Curve, metric_curve
from tui.read.plan_facts import plan_facts
from tui.words import figures
from tui.words.amount import amount
from tui.words.fact import Fact
from tui.words.field_words import figure, label

if TYPE_CHECKING:
    from probes.host.surroundings import Surroundings
    from sessions.disk.frame_schema import FrameRow
    from sessions.disk.store import Store

LOG_TAIL_LINES = 60
MOST_POINTS = 8000  # of a curve: a part of it can be looked at


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the screen shows; runs and requests are rows of their frames as dictionaries. Times in the curves are
    seconds since the first block began, those between stretches left out; `laps` are the requests that count."""

    session: SessionFile
    live: bool
    overview: tuple[Fact, ...]
    runs: tuple[FrameRow, ...]
    requests: tuple[FrameRow, ...]
    laps: Mapping[str, Sequence[Lap]]
    curves: Mapping[TrackKind, Curve]
    blocks: tuple[BlockSpan, ...]
    times: Mapping[str, Sequence[tuple[Segment, float]]]  # of a block of each method
    fidelity: Sequence[tuple[str, Mapping[Path, Scored], Mapping[Path, str]]]  # method, scores, verdicts by path
    problem: str
    more: int  # rounds that would probably settle what is open, 0 where nothing is
    unscored: bool  # its fidelity could be added


def read_session(store: Store, name: str) -> SessionFacts:
    """Read a session, finalising it first if its conductor is gone. Raises SessionError with a sentence."""
    folder = store.folder(name)
    store.fetch([folder.id])  # all of it, so that nothing on the screen waits for the network later
    recover(folder)
    session = folder.read()
    live = folder.is_live()
    problem = session.error
    runs, requests = _frame(store, folder, "runs", "started_ns"), _frame(store, folder, "requests", "start_ns")
    if runs.is_empty() and not problem:
        problem = (
            "The session is running; its frames are written at the end."
            if live
            else "Nothing was measured in this session."
        )
    laps, curves, blocks = _time_line(store, session, runs, requests)
    overview = tuple(_overview(folder, session, live))
    comparison = None if live else compare(store, [(folder.id, None)])
    return SessionFacts(
        session,
        live,
        overview,
        tuple(runs.to_dicts()),
        tuple(requests.to_dicts()),
        laps,
        curves,
        blocks,
        method_segments(runs),
        _fidelity(folder, runs, comparison),
        problem,
        comparison.offers.get(folder.id, 0) if comparison else 0,
        comparison is not None and folder.id in comparison.unscored,
    )


def _fidelity(
    folder: SessionFolder, runs: pl.DataFrame, comparison: Comparison | None
) -> tuple[tuple[str, Mapping[Path, Scored], Mapping[Path, str]], ...]:
    try:
        rows = read_frame(folder.frame("fidelity"), "fidelity")
    except FrameError:  # the verdicts of a comparison say so
        return ()
    if rows.is_empty() or runs.is_empty():
        return ()
    scored = by_method(rows.join(last_attempts(runs), on=["method", "block", "attempt"], how="semi"))
    verdicts: dict[str, dict[Path, str]] = {
        row.method: {"prefill": row.fidelity, "decode": row.fidelity_decode}
        for row in (comparison.rows if comparison else ())
    }
    return tuple((method, own, verdicts.get(method, {})) for (_, method), own in scored.items())


def _frame(store: Store, folder: SessionFolder, frame: str, order: str) -> pl.DataFrame:
    scanned = store.scan(frame, [folder.id])
    if scanned is None:
        return pl.DataFrame(schema=SCHEMAS[frame])
    try:
        return in_their_order(scanned, order).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        first = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise SessionError(f"The {frame} of {folder.id} cannot be read ({first}).") from None


def _time_line(
    store: Store, session: SessionFile, runs: pl.DataFrame, requests: pl.DataFrame
) -> tuple[dict[str, list[Lap]], dict[TrackKind, Curve], tuple[BlockSpan, ...]]:
    found = spans(runs)
    if not found:
        return {}, {}, ()
    laps: dict[str, list[Lap]] = {}
    counted = with_stretch(counted_requests(runs, requests))
    for span in found:
        own = counted.filter(span.holds("end_ns")).sort("start_ns")
        for method, start_ns, end_ns, rate in own.select("method", "start_ns", "end_ns", "e2e_tok_s").iter_rows():
            if rate is not None and start_ns is not None:
                laps.setdefault(method, []).append(Lap(span.seconds(start_ns), span.seconds(end_ns), rate))
    curves = {
        kind: metric_curve(
            store, session.id, found, kind.sources, kind.metric, together=kind.together, most=MOST_POINTS
        )
        for kind in TRACKS
    }
    blocks = block_spans(runs, found, session.plan.lane_of)
    return laps, {kind: curve for kind, curve in curves.items() if curve.values}, tuple(blocks)


def _overview(folder: SessionFolder, session: SessionFile, live: bool) -> Iterator[Fact]:
    plan = session.plan
    yield Fact("", "Session")
    yield Fact("id", session.id)
    if session.name:
        yield Fact("name", session.name)
    if session.tags:
        yield Fact("tags", ", ".join(session.tags))
    style = {"finished": "good", "failed": "bad"}.get(session.status, "warning")
    yield Fact("status", session.status + (" (running)" if live else ""), style)
    if session.error:
        yield Fact("error", session.error, "bad")
    if session.created_ns:
        yield Fact("begun", f"{datetime.fromtimestamp(session.created_ns / 1e9).astimezone():%Y-%m-%d %H:%M:%S %Z}")
    if (took_s := session.took_s) is not None:
        yield Fact("took", figures.duration(took_s))
    if said := stretches_told(session):
        yield Fact("measured", said)
    yield Fact("folder", folder.place)
    yield Fact("", "")
    yield Fact("", "Plan")
    yield from plan_facts(msgspec.to_builtins(plan), prepared(folder.journal))
    if session.extensions:
        scored = ", fidelity measured" if any(goal.fidelity for goal in session.extensions) else ""
        yield Fact("since then", amount(plan, session.goal) + scored)
    yield Fact("", "")
    yield Fact("", "Machine")
    for name, value in msgspec.to_builtins(session.machine).items():
        if name != "missing" and value not in (None, "", ()):
            yield from _facts(name, value)
    for name, reason in session.machine.missing.items():
        yield Fact(label(name), f"– {reason}", "dim")
    yield Fact("", "")
    yield Fact("", "Surroundings")
    yield from _surroundings(session.surroundings)
    yield Fact("", "")
    yield Fact("", "Software")
    for name, value in session.software.items():  # packages keep their names
        yield Fact(name, value)


def _surroundings(around: Surroundings) -> Iterator[Fact]:
    """Variables keep their names."""
    for variable in around.variables or ():
        yield Fact("variable", str(variable))
    for name, value in msgspec.to_builtins(around).items():
        if name not in ("missing", "variables") and value not in (None, "", ()):
            yield Fact(label(name), " ".join(value) if name == "cpu_flags" else figure(name, value))
    for name, reason in around.missing.items():
        yield Fact(label(name), f"– {reason}", "dim")


def _facts(name: str, value: Any) -> Iterator[Fact]:
    """A fact for a plain value or a table, one a row for a list of tables."""
    if isinstance(value, dict):
        yield Fact(label(name), _table_in_words(value))
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for place, row in enumerate(value):
            yield Fact(f"{label(name).removesuffix('s')} {place}", _table_in_words(row))
    else:
        yield Fact(label(name), figure(name, value))


def _table_in_words(row: Any) -> str:
    if not isinstance(row, dict):
        return str(row)
    told = [(name, value) for name, value in row.items() if value not in (None, "", {}, [], ())]
    return ", ".join(f"{label(name)} {_inner(name, value)}" for name, value in told)


def _inner(name: str, value: Any) -> str:
    """A table's value: of tables, each in brackets."""
    if isinstance(value, list | tuple) and isinstance(value[0], dict):
        return " ".join(f"({_table_in_words(row)})" for row in value)
    return figure(name, value)


def run_facts(folder: SessionFolder, run: FrameRow) -> list[Fact]:
    """A run in full: figures, evidence, what is missing, flags and the end of its log."""
    again = f" · attempt {run['attempt'] + 1}" if run.get("attempt") else ""
    facts = [Fact("", f"{run['method']} · block {run['block'] + 1}{again}")]
    if run["error"]:
        facts.append(Fact("error", run["error"], "bad"))
    effect = run["in_effect"]
    style = {True: "good", False: "bad"}.get(effect, "dim")
    reason = f": {run['in_effect_reason']}" if run.get("in_effect_reason") else ""
    facts.append(Fact("in effect", figures.yes_no(effect) + reason, style))
    facts += [Fact("flag", flag, "warning") for flag in run["flags"] or ()]
    for name, value in run.items():
        if value is None or name in SHOWN_APART:
            continue
        facts.append(Fact(label(name), figure(name, value)))
    for title, name in (("Evidence", "evidence"), ("As resolved", "resolved"), ("Unavailable", "missing")):
        table = _table(run.get(name))
        if table:
            facts += [Fact("", ""), Fact("", title)]
            facts += [
                Fact(label(key), _shown(key, value), "dim" if name == "missing" else "") for key, value in table.items()
            ]
    facts += [Fact("", ""), Fact("", "Log")]
    lines = run_log_tail(folder, str(run["method"]), int(run["block"])) or list(run.get("log_tail") or ())
    facts += [Fact("", line or " ", "dim") for line in lines] or [Fact("", "(the log is empty)", "dim")]
    return facts


def _shown(name: str, value: object) -> str:
    """A fact of the evidence; the ids of a greedy pass are for comparisons, and here only counted."""
    ids = value.get("ids") if name == "greedy" and isinstance(value, dict) else None
    return f"{len(ids)} tokens" if isinstance(ids, list) else figure(name, value)


SHOWN_APART = {
    "session", "method", "block", "attempt", "error", "in_effect", "in_effect_reason", "flags", "evidence", "resolved",
    "versions", "missing", "log_tail", "started_ns", "ended_ns", "stretch",
}  # fmt: skip


def _table(text: object) -> dict[str, object]:
    try:
        table = json.loads(str(text)) if text else {}
    except ValueError:
        return {}
    return table if isinstance(table, dict) else {}


def run_log_tail(folder: SessionFolder, method: str, block: int) -> list[str]:
    """The last lines of a run's log; empty if there is none."""
    try:
        return log_tail(folder.log(method, block), LOG_TAIL_LINES)
    except SessionError:  # a frame from elsewhere may name anything
        return []
