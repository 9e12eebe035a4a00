"""A report as one self-contained page: HTML without scripts, or Markdown; plots are inlined.

Everything that came from a model, a log, a file name or a user is escaped: it is never markup.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from methods.base.named_output import OutputError, write_named
from sessions.disk.session_folder import SessionFile
from sessions.export.report import Report, ReportedSession
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_row import LoadRow
from sessions.verdict.result_columns import ResultColumn
from tui.words.model_text import model_text
from tui.words.result_text import text_of, tone_of
from tui.words.terminal_text import one_line, plain
from tui.words.verdict_text import labelled

TEMPLATES: Final = Path(__file__).parent
SUFFIXES: Final = {".html": "html", ".htm": "html", ".md": "md"}
MARKDOWN_SIGNS: Final = re.compile(r"[\\`*_{}\[\]#!|~<>&$@]|(?<=:)/(?=/)|(?<=www)\.|^[-+=.:]|(?<=\d)[.)](?= )")
LONGEST: Final = 2000
EMPTY: Final[tuple[object, ...]] = (None, "", (), [], {})


class ReportError(Exception):
    """The report cannot be written; the message is a sentence."""


def write_report(report: Report, path: Path) -> Path:
    """Write the page in the form that the file's suffix names; the absolute path it went to. Raises ReportError."""
    form = form_of(path)
    try:
        return write_named(path, page(report, form).encode("utf-8", errors="replace"))
    except OutputError as error:
        raise ReportError(str(error)) from None


def form_of(path: Path) -> str:
    """`html` or `md`, by the suffix. Raises ReportError."""
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise ReportError(f"{path.name} is neither .html nor .md: use one of these suffixes for --out.")
    return form


def page(report: Report, form: str) -> str:
    """The whole page as text; `form` is `html` or `md`."""
    html = form == "html"  # Markdown's template escapes each text by itself
    environment = Environment(autoescape=html, undefined=StrictUndefined, trim_blocks=not html)  # noqa: S701
    environment.filters |= {"drawn": Markup, "md": markdown, "fenced": fenced, "uri": data_uri}
    source = TEMPLATES.joinpath(f"report_page.{form}.jinja").read_text(encoding="utf-8")
    return plain(environment.from_string(source).render(_shown(report)))  # the labels of plots too


def markdown(text: object) -> str:
    """Text that Markdown shows as it is, on one line, in a table's cell too: its signs as character references."""
    return MARKDOWN_SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", one_line(str(text), LONGEST))


def fenced(text: object) -> str:
    """Text in a code block whose fence is longer than any run of backticks in it."""
    shown = plain(str(text))
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"


def data_uri(svg: str) -> str:
    """An SVG as the address of an image."""
    return "data:image/svg+xml;base64," + base64.b64encode(plain(svg).encode()).decode()


def _shown(report: Report) -> dict[str, object]:
    comparison = report.comparison
    sessions = [_session(session) for session in report.sessions]
    names = list(dict.fromkeys(row.session for row in comparison.rows))
    columns = comparison.columns.cells("report", comparison.rows)
    labels = [
        f"{'Not comparable: differs' if name in comparison.refused else 'Differs'} in {name}:"
        f" {', '.join(f'{session}: {one_line(str(value), 120)}' for session, value in values.items())}"
        for name, values in comparison.differences
    ]
    return {
        "title": f"Kasoku: {', '.join(names)}",
        "subtitle": "; ".join([_subtitle(session) for session in report.sessions] + list(comparison.remarks)),
        "labels": labels,
        "columns": columns,
        "rows": [_cells(columns, row, _label(report, row)) for row in comparison.rows],
        "verdicts": [_verdict(row, _label(report, row)) for row in comparison.rows],
        "plots": report.plots,
        "sessions": sessions,
    }


def _label(report: Report, row: ComparisonRow) -> str:
    label = report.label[(row.session, row.method)]
    return f"{row.point}, {label}" if isinstance(row, LoadRow) else label


def _cells(columns: Sequence[ResultColumn], row: ComparisonRow, label: str) -> dict[str, object]:
    return {
        "method": one_line(label or row.session, 80),
        "cells": [{"text": text_of(column, row), "bad": tone_of(column, row) == "bad"} for column in columns],
    }


def _verdict(row: ComparisonRow, label: str) -> dict[str, object]:
    bad = [f"not in effect: {row.in_effect_reason}"] if row.in_effect is False else []
    bad += [row.problem] if row.problem else []
    notes = [row.in_effect_reason] if row.in_effect and row.in_effect_reason else []
    notes += [row.difference] if row.difference else []
    notes += [f"{name}: {reason}" for name, reason in row.missing.items() if name in ("mbu", "timed_energy_j")]
    notes += labelled(row, "report")
    flags = [flag for flag in row.flags if not flag.startswith("method not in effect")]
    return {
        "method": one_line(label or row.session, 80),
        "verdict": row.verdict,
        "bad": [one_line(line, 600) for line in bad],
        "flags": [one_line(flag, 400) for flag in flags],
        "counted": f"{row.requests} requests in {row.blocks} blocks{f', {row.status}' if row.status != 'ok' else ''}",
        "notes": [one_line(note, 600) for note in notes],
    }


def _subtitle(reported: ReportedSession) -> str:
    plan, when = reported.session.plan, _when(reported.session)
    return one_line(f"{model_text(plan)}, {plan.device_name or plan.device}, {when}", 300)


def _when(session: SessionFile) -> str:
    return f"{datetime.fromtimestamp(session.created_ns / 1e9).astimezone():%Y-%m-%d %H:%M %Z}"


def _session(reported: ReportedSession) -> dict[str, object]:
    session, plan = reported.session, reported.session.plan
    when = _when(session)
    facts = [
        ("Plan", list(_facts(msgspec.to_builtins(plan), ("methods", "command", "prompt")))),
        ("Machine", list(_facts(msgspec.to_builtins(session.machine), ("missing",)))),
        ("Surroundings", [
            *(("variable", str(variable)) for variable in session.surroundings.variables or ()),
            *_facts(msgspec.to_builtins(session.surroundings), ("missing", "variables")),
        ]),
        ("Software", [*_facts(session.software), *(
            (method, ", ".join(f"{name} {version}" for name, version in versions.items()))
            for method, versions in reported.versions.items()
        )]),
        ("Memory bandwidth", list(_facts(msgspec.to_builtins(reported.bandwidth)))),
        ("Failed blocks", [
            (f"{method}, block {block}", f"{status}: {error}") for method, block, status, error in reported.failures
        ]),
    ]  # fmt: skip
    return {
        "id": f"{session.id}, {one_line(session.host, 40)}" if session.host else session.id,
        "status": one_line(f"{session.status}, started {when}. {session.error}", 600),
        "command": plain(reported.command),
        "prompt": None if reported.prompt is None else plain(reported.prompt),
        "prompt_tokens": reported.prompt_tokens,
        "splits": [
            {
                "method": one_line(split.method, 80),
                "reference": one_line(split.reference, 80),
                "sentence": one_line(split.sentence, 400),
                "common": None if split.common is None else plain(split.common),
                "own": plain(split.own or ""),
                "other": plain(split.other or ""),
            }
            for split in reported.splits
        ],
        "plots": reported.plots,
        "facts": [
            {"title": title, "rows": [(one_line(str(name), 120), one_line(value, LONGEST)) for name, value in rows]}
            for title, rows in facts
            if rows
        ],
    }


def _facts(facts: Mapping[str, object], apart: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Rows of what is known; what is empty is left out."""
    for name, value in facts.items():
        if name in apart or value in EMPTY:
            continue
        if isinstance(value, list | tuple):
            yield name, "; ".join(_words(item) for item in value)
        else:
            yield name, _words(value)


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items() if inner not in EMPTY)
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
