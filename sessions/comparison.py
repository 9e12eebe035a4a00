"""Sessions' methods side by side: a row for each (session, method), each against its reference.

The unit of replication is the block: intervals come from per-block means, ratios from per-block log ratios paired with
the same block of the reference in the same session. Only the last attempt at a block counts, warm-ups never.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from sessions.metrics import inter_token_latencies
from sessions.session_folder import SessionError
from sessions.statistics import mean_interval, ratio_interval
from sessions.store import Store

SETTINGS = ("model", "dtype", "device", "prompt", "prompt_tokens", "sampling", "threads")


class ComparisonError(Exception):
    """The comparison makes no sense; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One method of one session. Rates are tokens/s of whole requests; `problem` says what is wrong with the row.

    `tok_s_low` to `tok_s_high` is the 95 % t interval over blocks; what could not be known is None.
    """

    session: str
    method: str
    reference: str | None = None
    requests: int = 0
    blocks: int = 0
    tok_s_mean: float | None = None
    tok_s_median: float | None = None
    tok_s_sd: float | None = None
    tok_s_low: float | None = None
    tok_s_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    verdict: str = ""
    ttft_s_median: float | None = None
    itl_s_p50: float | None = None
    itl_s_p99: float | None = None
    peak_vram_bytes: int | None = None
    energy_j_per_token: float | None = None
    mbu: float | None = None
    first_difference: int | None = None
    in_effect: bool | None = None
    flags: tuple[str, ...] = ()
    decode_tok_s_median: float | None = None
    load_s_median: float | None = None
    warmup_s_median: float | None = None
    peak_rss_bytes: int | None = None
    status: str = ""
    in_effect_reason: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The rows in the order asked for, and the settings in which the sessions differ: (setting, {session: value})."""

    rows: tuple[ComparisonRow, ...]
    differences: tuple[tuple[str, dict[str, Any]], ...] = ()
    problems: tuple[str, ...] = ()


def compare(
    store: Store, picks: Sequence[tuple[str, str | None]], baseline: str | None = None, anyway: bool = False
) -> Comparison:
    """Rows for each pick: one method of a session, or with None all its methods.

    `baseline` replaces the methods' own references. Sessions that differ in what makes numbers comparable (model,
    dtype, prompt, length, sampling) are refused with ComparisonError unless `anyway`. What cannot be read is a row that
    says so.
    """
    sessions = list(dict.fromkeys(session for session, _ in picks))
    plans: dict[str, dict[str, Any]] = {}
    problems: dict[str, str] = {}
    for session in sessions:
        try:
            plans[session] = store.folder(session).read().plan
        except SessionError as error:
            problems[session] = str(error)
    differences = tuple(_differences(plans))
    if differences and not anyway:
        names = ", ".join(name for name, _ in differences)
        raise ComparisonError(
            f"These sessions differ in {names}, so their numbers do not compare: add --anyway to see them side by side."
        )
    readable = [session for session in sessions if session in plans]
    table = _Frames.load(store, readable)
    rows: list[ComparisonRow] = []
    for session, method in picks:
        if session in problems:
            rows.append(ComparisonRow(session, method or "", problem=problems[session]))
            continue
        planned = [str(row.get("name")) for row in plans[session].get("methods", []) if isinstance(row, dict)]
        ran = table.methods(session)
        present = [name for name in planned if name in ran] + [name for name in ran if name not in planned]
        present = present or planned
        rows += [table.row(session, name, baseline) for name in ([method] if method else present)]
    return Comparison(tuple(rows), differences, tuple(problems.values()))


def _differences(plans: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in SETTINGS:
        values = {session: plan.get(name) for session, plan in plans.items()}
        if len({json.dumps(value, sort_keys=True) for value in values.values()}) > 1:
            found.append((name, values))
    return found


class _Frames:
    """What the comparison needs of the frames, aggregated once for all sessions."""

    def __init__(self, runs: dict[tuple[str, str], list[dict[str, Any]]], rates: dict[tuple[str, str], Any]) -> None:
        self._runs, self._rates = runs, rates

    @classmethod
    def load(cls, store: Store, sessions: list[str]) -> _Frames:
        runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
        rates: dict[tuple[str, str], Any] = {}
        for session in sessions:
            try:
                for row in _last_attempts(store, session):
                    runs.setdefault((session, row["method"]), []).append(row)
                for row in _requests(store, session):
                    rates.setdefault((session, row["method"]), {})[row["block"]] = row
                for row in _latencies(store, session):
                    rates.setdefault((session, row["method"]), {})["itl"] = row
            except (pl.exceptions.PolarsError, OSError) as error:
                runs.setdefault((session, ""), []).append({"method": "", "problem": _brief(error)})
        return cls(runs, rates)

    def methods(self, session: str) -> list[str]:
        return [method for (own, method) in self._runs if own == session and method]

    def block_means(self, session: str, method: str) -> dict[int, float]:
        """Mean e2e_tok_s of each block that ended well."""
        good = {row["block"] for row in self._runs.get((session, method), []) if row["status"] == "ok"}
        rates = self._rates.get((session, method), {})
        return {block: row["mean"] for block, row in rates.items() if block in good and row["mean"] is not None}

    def row(self, session: str, method: str, baseline: str | None) -> ComparisonRow:
        runs = self._runs.get((session, method), [])
        broken = self._runs.get((session, ""), [])
        if not runs:
            why = broken[0]["problem"] if broken else f"the session has no run of {method}"
            return ComparisonRow(session, method, problem=why)
        rates = self._rates.get((session, method), {})
        means = self.block_means(session, method)
        values = [value for block in means for value in rates[block]["values"]]
        ttfts = [value for block in means for value in rates[block]["ttfts"]]
        decodes = [value for block in means for value in rates[block]["decodes"] if value is not None]
        interval = mean_interval(list(means.values()))
        reference = baseline or runs[0].get("reference")
        ratio = _ratio(means, self.block_means(session, reference or method))
        itl = rates.get("itl") or {}
        effects = [run["in_effect"] for run in runs if run["in_effect"] is not None]
        statuses = sorted({run["status"] for run in runs})
        return ComparisonRow(
            session=session,
            method=method,
            reference=reference,
            requests=len(values),
            blocks=len(means),
            tok_s_mean=statistics.fmean(values) if values else None,
            tok_s_median=statistics.median(values) if values else None,
            tok_s_sd=statistics.stdev(values) if len(values) > 1 else None,
            tok_s_low=interval.low if interval else None,
            tok_s_high=interval.high if interval else None,
            ratio=ratio[0],
            ratio_low=ratio[1],
            ratio_high=ratio[2],
            verdict=_verdict(method, reference, ratio, len(means)),
            ttft_s_median=statistics.median(ttfts) if ttfts else None,
            itl_s_p50=itl.get("p50"),
            itl_s_p99=itl.get("p99"),
            peak_vram_bytes=_most(runs, "peak_vram_bytes"),
            energy_j_per_token=_joules_per_token(runs, rates),
            in_effect=all(effects) if effects else None,
            flags=tuple(sorted({flag for run in runs for flag in run["flags"] or ()})),
            decode_tok_s_median=statistics.median(decodes) if decodes else None,
            load_s_median=_median(runs, "load_s"),
            warmup_s_median=_median(runs, "warmup_s"),
            peak_rss_bytes=_most(runs, "peak_rss_bytes"),
            status="ok" if statuses == ["ok"] else ", ".join(statuses),
            in_effect_reason=next((run["in_effect_reason"] or "" for run in runs if run["in_effect_reason"]), ""),
            problem=next((run["error"] for run in runs if run["error"]), ""),
        )


def _last_attempts(store: Store, session: str) -> list[dict[str, Any]]:
    runs = store.scan("runs", [session])
    if runs is None:
        return []
    frame = runs.filter(pl.col("attempt") == pl.col("attempt").max().over("method", "block")).collect()
    return frame.sort("started_ns").to_dicts()


def _requests(store: Store, session: str) -> list[dict[str, Any]]:
    requests = store.scan("requests", [session])
    if requests is None:
        return []
    whole = requests.filter(
        pl.col("attempt") == pl.col("attempt").max().over("method", "block"),
        pl.col("finish_reason").is_in(["length", "eos"]),
    )
    timed = ~pl.col("warmup") & pl.col("e2e_tok_s").is_not_null()
    return (
        whole.group_by("method", "block", maintain_order=True)
        .agg(
            pl.col("e2e_tok_s").filter(timed).mean().alias("mean"),
            pl.col("e2e_tok_s").filter(timed).alias("values"),
            pl.col("ttft_s").filter(timed).alias("ttfts"),
            pl.col("decode_tok_s").filter(timed).alias("decodes"),
            pl.col("output_tokens").sum().alias("all_tokens"),
        )
        .collect()
        .to_dicts()
    )


def _latencies(store: Store, session: str) -> list[dict[str, Any]]:
    """Percentiles of the inter-token latency over a method's timed requests."""
    tokens, requests = store.scan("tokens", [session]), store.scan("requests", [session])
    if tokens is None or requests is None:
        return []
    timed = requests.filter(~pl.col("warmup")).select("method", "block", "attempt", "request")
    return (
        inter_token_latencies(tokens.join(timed, on=["method", "block", "attempt", "request"], how="semi"))
        .filter(pl.col("attempt") == pl.col("attempt").max().over("method", "block"))
        .group_by("method")
        .agg(pl.col("itl_s").quantile(0.5).alias("p50"), pl.col("itl_s").quantile(0.99).alias("p99"))
        .collect()
        .to_dicts()
    )


def _ratio(means: dict[int, float], base: dict[int, float]) -> tuple[float | None, float | None, float | None]:
    paired = [(means[block], base[block]) for block in means if block in base]
    if not paired:
        return None, None, None
    values, references = [pair[0] for pair in paired], [pair[1] for pair in paired]
    interval = ratio_interval(values, references)
    if interval is None:
        return math.exp(statistics.fmean(math.log(v / r) for v, r in paired)), None, None
    return interval.estimate, interval.low, interval.high


def _verdict(
    method: str, reference: str | None, ratio: tuple[float | None, float | None, float | None], blocks: int
) -> str:
    estimate, low, high = ratio
    if reference is None or reference == method:
        return "the reference"
    if estimate is None:
        return f"no block to compare with {reference}"
    if low is None or high is None:
        return f"too few blocks to say ({blocks}; 3 are the least)"
    if low > 1.01:
        return f"{estimate:.2f}× faster, {low:.2f}–{high:.2f}"
    if high < 0.99:
        return f"{1 / estimate:.2f}× slower, {1 / high:.2f}–{1 / low:.2f}"
    largest = max(high - 1, 1 - low, 0.0)
    return f"no difference larger than {largest * 100:.1f} %"


def _joules_per_token(runs: list[dict[str, Any]], rates: dict[Any, Any]) -> float | None:
    """Energy of whole blocks over all their tokens, warm-ups among both; None where a block's energy is not known."""
    joules = tokens = 0.0
    for run in runs:
        if run["status"] != "ok" or run["block"] not in rates:
            continue
        if run["energy_j"] is None:
            return None
        joules += run["energy_j"]
        tokens += rates[run["block"]]["all_tokens"]
    return joules / tokens if tokens else None


def _most(runs: list[dict[str, Any]], column: str) -> int | None:
    return max((run[column] for run in runs if run[column] is not None), default=None)


def _median(runs: list[dict[str, Any]], column: str) -> float | None:
    values = [run[column] for run in runs if run[column] is not None]
    return statistics.median(values) if values else None


def _brief(error: Exception) -> str:
    return f"its frames cannot be read ({str(error).splitlines()[0][:160] if str(error) else type(error).__name__})"
