"""What a comparison reads of many sessions: one scan over all their runs, one over all their requests.

A file that is missing, torn, foreign or of wrong types excludes only its own session, with the reason.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import polars as pl

from sessions.disk.frame_schema import KEY, SCHEMAS, FrameRow, schema_version
from sessions.disk.point import ALONE
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import SessionError, newer
from sessions.disk.slo import Slo
from sessions.disk.store import Store
from sessions.frames.counting import (
    counted_requests,
    in_their_order,
    is_steady,
    last_attempts,
    with_attempt,
)
from sessions.frames.metrics import inter_token_latencies, percentiles
from sessions.verdict import fidelity_windows
from sessions.verdict.block_sums import BlockSums, MethodFigures, method_figures
from sessions.verdict.fidelity_figures import PATHS
from sessions.verdict.fidelity_figures import Path as ScoredPath
from sessions.verdict.fidelity_windows import Scored
from sessions.verdict.result_columns import ResultColumns, Stored

Key = tuple[str, str, str]  # session, method, point
MethodKey = tuple[str, str]  # session, method
NO_LOAD: Final[Mapping[str, Slo | None]] = MappingProxyType({})
METHOD_POINT: Final = ("session", "method", "point")
NOT_TOLD: Final = "not reported"
FILE: Final = "its file"  # a column that no frame has

# What a comparison works with; the figures that a result column only sums up (`Stored`) are read besides.
RUN_COLUMNS: Final = (
    "method", "reference", "block", "attempt", "status", "error", "load_s", "dtype", "weights_digest", "prompt_digest",
    "method_itl_s_p50", "method_itl_s_p99", "bytes_per_token", "bandwidth_bytes_s", "first_difference",
    "equal_tokens_share", "difference", "peak_vram_bytes", "peak_rss_bytes", "timed_energy_j", "in_effect",
    "in_effect_reason", "flags", "missing", "started_ns", "stretch", "point",
)  # fmt: skip
REQUEST_COLUMNS: Final = (
    "method", "block", "attempt", "request", "warmup", "finish_reason", "output_tokens", "ttft_s", "e2e_tok_s",
    "point",
)  # fmt: skip
# What it needs besides of a session that was measured under load.
LOAD_RUN_COLUMNS: Final = ("tok_s_total", "steady_s", "steady_tokens", "steady_energy_j", "bytes_per_step", "rate")
LOAD_REQUEST_COLUMNS: Final = (
    "batch", "concurrency", "rate", "steady", "steady_tokens", "start_ns", "e2e_s", "tpot_s", "ttft_s",
)  # fmt: skip
# Without these a session cannot be compared at all; the others are null where a session lacks them.
NEEDED: Final = {"runs": ("method", "block", "status"), "requests": ("method", "block", "output_tokens", "e2e_tok_s")}


@dataclass(slots=True)
class ComparisonFrames:
    """Everything by (session, method, point). `runs` are last attempts; `figures` follow from blocks' sums, `spreads`
    are quantiles and the like over all requests that count, by the result column's key; `kept` are requests/s that keep
    the bounds asked for, by block; `fidelity`, by (session, method), has the methods that were scored, or could not be;
    `problems` by session, a sentence each."""

    runs: dict[Key, list[FrameRow]] = field(default_factory=dict)
    figures: dict[Key, MethodFigures] = field(default_factory=dict)
    spreads: dict[Key, FrameRow] = field(default_factory=dict)
    kept: dict[Key, dict[int, float]] = field(default_factory=dict)
    fidelity: dict[MethodKey, dict[ScoredPath, Scored]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    _by_session: dict[str, dict[str, dict[str, None]]] = field(default_factory=dict)

    def methods(self, session: str) -> list[str]:
        """The methods that ran, in the order of their first blocks."""
        return list(self._points_by_method(session))

    def points(self, session: str, method: str) -> list[str]:
        """The points at which a method ran, or was to run."""
        return list(self._points_by_method(session).get(method, ()))

    def of_method(self, session: str, method: str) -> list[FrameRow]:
        """The runs of a method at all its points."""
        return [run for point in self.points(session, method) for run in self.runs[(session, method, point)]]

    def _points_by_method(self, session: str) -> dict[str, dict[str, None]]:
        if not self._by_session:  # once all are read: a look through all of them for each would grow with its square
            for own, method, point in self.runs:
                self._by_session.setdefault(own, {}).setdefault(method, {})[point] = None
        return self._by_session.get(session, {})


def load(
    store: Store, sessions: Sequence[str], columns: ResultColumns, loads: Mapping[str, Slo | None] = NO_LOAD
) -> ComparisonFrames:
    """Read of the sessions' frames what the columns need; raises nothing that a file can cause.

    `loads` names the sessions that were measured under load, with the bounds that a request has to keep there.
    """
    found = ComparisonFrames()
    of_runs = RUN_COLUMNS + LOAD_RUN_COLUMNS if loads else RUN_COLUMNS
    runs = _read(store, "runs", _with(of_runs, columns.stored("runs")), sessions, found.problems)
    if runs.is_empty():
        return found
    named = runs.filter(pl.col("method").is_not_null() & pl.col("block").is_not_null())
    last = last_attempts(named).unique([*KEY, "point"], keep="last", maintain_order=True)
    for row in in_their_order(last, "started_ns").sort("session", maintain_order=True).iter_rows(named=True):
        found.runs.setdefault((row["session"], row["method"], row["point"]), []).append(row)
    read = [session for session in sessions if session not in found.problems]
    over_requests = columns.stored("requests")
    of_requests = REQUEST_COLUMNS + LOAD_REQUEST_COLUMNS if loads else REQUEST_COLUMNS
    requests = _read(store, "requests", _with(of_requests, over_requests), read, found.problems)
    timed = counted_requests(last, requests)
    if loads:
        for session, slo in loads.items():
            if slo is not None:
                _keep(found, timed.filter(pl.col("session") == session), slo)
        timed = timed.filter(is_steady())
    _add_up(found, timed)
    spreads = timed.group_by(METHOD_POINT).agg(_figure(stored).alias(key) for key, stored in over_requests.items())
    for row in spreads.iter_rows(named=True):
        found.spreads[(row["session"], row["method"], row["point"])] = row
    _latencies(store, found, timed)
    _fidelity(store, found, last)
    return found


def _fidelity(store: Store, found: ComparisonFrames, last: pl.DataFrame) -> None:
    """What was scored in the last attempts; of a session whose frame cannot be read, why nothing is known."""
    there = [name for name in last["session"].unique() if _has(store, name, "fidelity")]
    problems: dict[str, str] = {}
    rows = _read(store, "fidelity", fidelity_windows.COLUMNS, there, problems).join(last, on=KEY, how="semi")
    found.fidelity = fidelity_windows.by_method(rows)
    for key in found.runs:
        if (problem := problems.get(key[0])) is not None:
            found.fidelity[key[:2]] = dict.fromkeys(PATHS, Scored(reason=problem))


def _has(store: Store, session: str, frame: str) -> bool:
    """Whether there is such a frame, or that is unknown."""
    try:
        return os.path.isfile(store.at(session).frame(frame))
    except SessionError:
        return True


def _add_up(found: ComparisonFrames, timed: pl.DataFrame) -> None:
    """The figures of every method that ran, from its runs and the sums over their requests that count."""
    rate, tokens, ttft = pl.col("e2e_tok_s"), pl.col("output_tokens"), pl.col("ttft_s")
    sums = timed.group_by(*METHOD_POINT, "block").agg(pl.len(), rate.sum(), tokens.sum(), ttft.drop_nulls())
    summed = {row[:4]: row[4:] for row in sums.iter_rows()}
    for key, runs in found.runs.items():
        blocks = []
        for run in runs:
            requests, tok_s, count, ttfts = summed.get((*key, run["block"]), (0, 0.0, 0, ()))
            blocks.append(
                BlockSums(
                    block=run["block"],
                    status=run["status"] or NOT_TOLD,
                    error=run["error"] or "",
                    requests=requests,
                    tok_s_sum=tok_s,
                    tokens=count,
                    ttfts_s=array("d", ttfts),
                    timed_energy_j=run["timed_energy_j"],
                    load_s=run["load_s"],
                    peak_rss_bytes=run["peak_rss_bytes"],
                    peak_vram_bytes=run["peak_vram_bytes"],
                    in_effect=run["in_effect"],
                    in_effect_reason=run["in_effect_reason"] or "",
                )
            )
        found.figures[key] = method_figures(blocks)


def _keep(found: ComparisonFrames, timed: pl.DataFrame, slo: Slo) -> None:
    """Goodput: requests/s as in point_figures, of those that keep every bound."""
    kept = pl.all_horizontal((pl.col(column) <= most).fill_null(value=False) for column, most in slo.bounds)
    share = (pl.col("steady_tokens") / pl.col("output_tokens")).filter(kept).sum()
    sums = {tuple(key): value for *key, value in timed.group_by(*METHOD_POINT, "block").agg(share).iter_rows()}
    for (*key, block), value in sums.items():
        session, method, point = key
        run = next(row for row in found.runs[(session, method, point)] if row["block"] == block)
        if run["steady_s"]:
            found.kept.setdefault((session, method, point), {})[block] = value / run["steady_s"]


def _with(needed: Sequence[str], stored: Mapping[str, Stored]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*needed, *(each.column for each in stored.values())]))


def _figure(stored: Stored) -> pl.Expr:
    column = pl.col(stored.column)
    return {
        "mean": column.mean(), "median": column.median(), "sd": column.std(), "most": column.max(),
        "least": column.min(), "last": column.last(), "p90": column.quantile(0.9, interpolation="linear"),
        "p99": column.quantile(0.99, interpolation="linear"),
    }[stored.by]  # fmt: skip


def _latencies(store: Store, found: ComparisonFrames, timed: pl.DataFrame) -> None:
    """Percentiles of the inter-token latency as finalising left them; from the tokens where it did not yet."""
    older = set()
    for key, spread in found.spreads.items():
        run = found.runs[key][0]
        spread["itl_s_p50"], spread["itl_s_p99"] = run["method_itl_s_p50"], run["method_itl_s_p99"]
        if spread["itl_s_p50"] is None:
            older.add(key[0])
    for session in older:
        for row in _latencies_of(store, session, timed):
            known = found.spreads.get((session, row["method"], ALONE), {})
            known["itl_s_p50"], known["itl_s_p99"] = row["itl_s_p50"], row["itl_s_p99"]


def _latencies_of(store: Store, session: str, timed: pl.DataFrame) -> list[FrameRow]:
    problems: dict[str, str] = {}  # no tokens: then there are no percentiles, and the rest of the row stands
    tokens = _read(store, "tokens", tuple(SCHEMAS["tokens"]), [session], problems)
    own = with_attempt(tokens).join(timed, on=[*KEY, "request"], how="semi")
    gaps = inter_token_latencies(own.lazy())
    return gaps.filter(pl.col("itl_s").is_not_null()).group_by("method").agg(percentiles()).collect().to_dicts()


def _read(
    store: Store, frame: str, columns: Sequence[str], sessions: Sequence[str], problems: dict[str, str]
) -> pl.DataFrame:
    """The columns of a frame over the sessions, with `session` as the store names it; what cannot be read is said in
    `problems`, and left out."""
    files: dict[str, str] = {}
    for session in sessions:
        try:
            path = store.at(session).frame(frame)
        except SessionError as error:
            problems.setdefault(session, str(error))
            continue
        if not os.path.isfile(path):
            problems.setdefault(session, f"it has no {frame} frame: nothing was measured, or it was cut short")
        elif (version := schema_version(path)) > SCHEMA_VERSION:
            problems.setdefault(session, newer(session, version))
        else:
            files[str(path)] = session
    whole = _collected(frame, columns, files)
    if isinstance(whole, pl.DataFrame):
        _refuse_lacking(frame, whole, files, problems)
        return whole
    parts = [_collected(frame, columns, {})]
    for own, session in files.items():
        part = _collected(frame, columns, {own: session})
        if isinstance(part, pl.DataFrame):
            _refuse_lacking(frame, part, {own: session}, problems)
            parts.append(part)
        else:
            problems.setdefault(session, f"its {frame} cannot be read ({part})")
    return pl.concat([part for part in parts if isinstance(part, pl.DataFrame)])


def _collected(frame: str, columns: Sequence[str], files: Mapping[str, str]) -> pl.DataFrame | str:
    """The rows of all the files, or what went wrong."""
    schema = SCHEMAS[frame]
    wanted = [name for name in columns if name != "session"]
    if not files:
        return pl.DataFrame(schema={"session": pl.String} | {name: schema[name] for name in wanted})
    try:
        frames = pl.scan_parquet(
            list(files),
            schema=schema,
            missing_columns="insert",
            extra_columns="ignore",
            cast_options=pl.ScanCastOptions(integer_cast="upcast", float_cast="upcast"),
            include_file_paths=FILE,
            glob=False,
        )
        rows = frames.select(FILE, *wanted).collect()
        sessions = rows[FILE].replace_strict(files, return_dtype=pl.String)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError, TypeError) as error:
        return str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return rows.select(sessions.alias("session"), *wanted)


def _refuse_lacking(frame: str, rows: pl.DataFrame, files: Mapping[str, str], problems: dict[str, str]) -> None:
    """A session whose rows are all null where a comparison needs values is foreign: report what it lacks."""
    needed = NEEDED.get(frame, ())
    if needed and not rows.is_empty() and set(needed) <= set(rows.columns):
        counts = rows.group_by("session").agg(pl.col(needed).count())
        for row in counts.iter_rows(named=True):
            if lacking := [name for name in needed if row[name] == 0]:
                problems.setdefault(row["session"], f"its {frame} lack {', '.join(lacking)}")
    if frame == "runs":
        measured = set(rows["session"].unique())
        for session in files.values():
            if session not in measured:
                problems.setdefault(session, "nothing was measured in it")
