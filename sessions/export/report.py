"""The content of a report: comparison, plots, texts at the split, machines, and the commands to run again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from methods.base.memory_bandwidth import MemoryBandwidth
from sessions.disk.frame_schema import FrameError, read_frame
from sessions.disk.journal import prepared
from sessions.disk.plan import Plan
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder
from sessions.disk.store import Store
from sessions.export.command import command_of
from sessions.export.load_plots import load_plots
from sessions.export.report_plots import curve_plot, loss_plot, order_plot, rates_plot, ratio_plot, time_plot
from sessions.frames.block_phases import method_segments
from sessions.frames.counting import counted_requests, failed_attempts, in_their_order, with_stretch
from sessions.frames.timeline import spans
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.load_curves import load_curves
from sessions.verdict.speed_and_loss import trade_offs
from sessions.verdict.splits import Split, splits

CURVES = (("GPU power, W", "gpu", "power_w"), ("SM clock, MHz", "gpu", "sm_clock_mhz"),
          ("host CPU, %", "host", "cpu_percent"))  # fmt: skip
AGAIN = " It was run again since."
LOSS = "Speed against loss, the fidelity floor as a band.{remark}"


@dataclass(frozen=True, slots=True)
class PlotImage:
    """`svg` is a whole SVG document."""

    title: str
    svg: str


@dataclass(frozen=True, slots=True)
class ReportedSession:
    """One session: its file, the command that runs it again, its prompt, its failures, plots and splits."""

    session: SessionFile
    command: str
    prompt: str | None
    prompt_tokens: int | None
    versions: Mapping[str, Mapping[str, str]]
    failures: tuple[tuple[str, int, str, str], ...]  # method, block, status, sentence
    plots: tuple[PlotImage, ...]
    splits: tuple[Split, ...]
    bandwidth: MemoryBandwidth


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. `label` names each row shortly, by (session, method)."""

    comparison: Comparison
    label: Mapping[tuple[str, str], str]
    plots: tuple[PlotImage, ...]
    sessions: tuple[ReportedSession, ...]


def make_report(store: Store, sessions: Sequence[str]) -> Report:
    """Read everything about the sessions; what cannot be read becomes a row that says why. Raises nothing for that."""
    comparison = compare(store, [(session, None) for session in sessions], anyway=True)
    several = len(sessions) > 1
    place = _places(store, sessions)
    label = {
        (row.session, row.method): f"{row.method} ({place[row.session]})" if several else row.method
        for row in comparison.rows
    }
    curves = load_curves(comparison.rows)
    rates: dict[str, list[tuple[int, int, float]]] = {}
    reported = []
    for session in sessions:
        try:
            folder = store.at(session)
            file, plan = folder.read(), folder.plan()
        except SessionError:
            continue  # its row in the comparison says what is wrong
        frames = _frames(folder)
        own = {} if plan.has_load else _rates(frames)
        rates |= {label[(session, method)]: points for method, points in own.items() if (session, method) in label}
        reported.append(_session(folder, file, plan, frames))
    rates = {name: rates[name] for name in label.values() if name in rates}  # in the order of the table
    found = trade_offs(comparison.rows)
    plots = [
        ("Ratio to the reference", None if curves else ratio_plot(comparison.rows, label)),
        *(plot for each in curves for plot in load_plots(each, lambda curve: curve.name(several))),
        (LOSS.format(remark=f" {found.remark}" if found and found.remark else ""), found and loss_plot(found, label)),
        ("Tokens/s of each request", rates_plot(rates)),
        ("Tokens/s in the order of the requests", order_plot(rates)),
    ]
    return Report(comparison, label, tuple(PlotImage(title, svg) for title, svg in plots if svg), tuple(reported))


def _places(store: Store, sessions: Sequence[str]) -> dict[str, str]:
    """What tells the sessions apart: their hosts, where each is of another one, else the ends of their IDs."""
    hosts = {}
    for session in sessions:
        try:
            hosts[session] = store.at(session).read().host
        except SessionError:
            hosts[session] = ""
    if all(hosts.values()) and len(set(hosts.values())) == len(hosts):
        return hosts
    return {session: session[-6:] for session in sessions}


def _frames(folder: SessionFolder) -> dict[str, pl.DataFrame]:
    frames = {}
    for name in ("runs", "requests", "telemetry"):
        try:
            frames[name] = read_frame(folder.frame(name), name)
        except FrameError:
            return {}  # one alone tells half a story
    return frames


def _rates(frames: Mapping[str, pl.DataFrame]) -> dict[str, list[tuple[int, int, float]]]:
    rates: dict[str, list[tuple[int, int, float]]] = {}
    try:
        timed = in_their_order(counted_requests(frames["runs"], frames["requests"]), "start_ns")
    except (KeyError, pl.exceptions.PolarsError):
        return {}
    for method, block, request, rate in timed.select("method", "block", "request", "e2e_tok_s").iter_rows():
        rates.setdefault(method, []).append((block, request, rate))
    return rates


def _session(
    folder: SessionFolder, file: SessionFile, plan: Plan, frames: Mapping[str, pl.DataFrame]
) -> ReportedSession:
    found = prepared(folder.journal)
    try:
        rows = frames["runs"].to_dicts() if frames else []
        failures = tuple(
            (row["method"], row["block"], row["status"], f"{row['error'] or ''}{AGAIN if row['again'] else ''}")
            for row in (failed_attempts(frames["runs"]).to_dicts() if frames else ())
        )
        versions = {row["method"]: _versions(row["versions"]) for row in rows}
        own_splits, plots = splits(rows, found.model if found else None), _plots(frames)
    except (KeyError, TypeError, pl.exceptions.PolarsError):  # frames of another make
        failures, versions, own_splits, plots = (), {}, (), ()
    return ReportedSession(
        session=file,
        command=command_of(plan),
        prompt=found.prompt_text if found else plan.prompt,
        prompt_tokens=len(found.prompts[0]) if found and found.prompts else plan.prompt_tokens,
        versions=versions,
        failures=failures,
        plots=plots,
        splits=own_splits,
        bandwidth=found.bandwidth if found else MemoryBandwidth(),
    )


def _versions(text: object) -> dict[str, str]:
    """A JSON object of short values as text; empty where it is none."""
    try:
        value = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return {str(name): str(version) for name, version in value.items()} if isinstance(value, dict) else {}


def _plots(frames: Mapping[str, pl.DataFrame]) -> tuple[PlotImage, ...]:
    if not frames or frames["runs"].is_empty():
        return ()
    found, telemetry = spans(frames["runs"]), with_stretch(frames["telemetry"])
    times = time_plot(method_segments(frames["runs"]))
    plots = [PlotImage("Where a block's time goes", times)] if times else []
    for title, source, metric in CURVES:
        rows = telemetry.filter(
            pl.col("source").str.starts_with(source), pl.col("metric") == metric, pl.col("value").is_finite()
        )
        for name in rows["source"].unique(maintain_order=True):
            seconds: list[float] = []
            values: list[float] = []
            for span in found:
                own = rows.filter(pl.col("source") == name, span.holds("t_ns")).sort("t_ns")
                seconds += map(span.seconds, own["t_ns"].to_list())
                values += own["value"].to_list()
            svg = curve_plot(title, seconds, values)
            if svg:
                plots.append(PlotImage(f"{title} ({name})", svg))
    return tuple(plots)
