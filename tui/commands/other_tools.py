"""`kasoku show SESSION --as TOOL`: the session in another tool's terms."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Final

from rich.table import Table
from rich.text import Text

from sessions.disk.frame_schema import FrameError, read_frame, scan_frame
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.disk.store import Store
from sessions.export.other_tools import OTHER_TOOLS, OtherToolError, Quantity, Quotation, quote
from sessions.frames.counting import with_attempt
from sessions.frames.response_tokens import ResponseTokens
from tui.command_line import EXIT_OK, UsageError
from tui.print.console import console
from tui.words.figures import UNKNOWN
from tui.words.terminal_text import json_document, one_line

ARTICLE: Final = "article"  # no formulas of its own, but tables of its own


def show_as(folder: SessionFolder, among: Store, tool: str, as_json: bool) -> int:
    """Print the figures; UsageError if the session cannot be reported that way."""
    if tool == ARTICLE:
        return _show_article(folder, among, as_json)
    if tool not in OTHER_TOOLS:
        raise UsageError(f"--as {tool} is not known: use one of {', '.join((*OTHER_TOOLS, ARTICLE))}.")
    try:
        runs, requests = (read_frame(folder.frame(name), name) for name in ("runs", "requests"))
        tokens = ResponseTokens(with_attempt(scan_frame(folder.frame("tokens"), "tokens")), with_attempt(requests))
        quotations = quote(tool, runs, requests, tokens)
    except FrameError:
        raise UsageError(f"The frames of {folder.id} cannot be read, so there is nothing to report.") from None
    except OtherToolError as error:
        raise UsageError(str(error)) from None
    described = OTHER_TOOLS[tool]
    note = described.load_note if quotations[0].point else described.note
    if as_json:
        document: dict[str, object] = {"session": folder.id, "tool": tool, "note": note}
        document["methods"] = [_document(quotation) for quotation in quotations]
        sys.stdout.write(json_document(document))
        return EXIT_OK
    screen = console()
    for point, found in groupby(quotations, key=lambda quotation: quotation.point):
        own = list(found)
        at_point = f", {one_line(point, 100)}" if point else ""
        told = f"{folder.id} in the terms of {tool}{at_point}: {own[0].requests} requests per method"
        screen.print(Text(told))
        screen.print(_table(tool, own))
    screen.print(Text(note, style="dim"))
    return EXIT_OK


def _document(quotation: Quotation) -> dict[str, object]:
    document = asdict(quotation)
    return document if quotation.point else {name: value for name, value in document.items() if name != "point"}


def _table(tool: str, quotations: Sequence[Quotation]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (tool, "unit"):
        table.add_column(heading, no_wrap=True)
    for quotation in quotations:
        table.add_column(Text(one_line(quotation.method, 40)), justify="right", no_wrap=True)
    table.add_column("formula")
    for row in zip(*(quotation.quantities for quotation in quotations), strict=True):
        first = row[0]
        table.add_row(Text(first.name), Text(first.unit), *(Text(_figure(each)) for each in row), Text(first.formula))
    return table


def _show_article(folder: SessionFolder, among: Store, as_json: bool) -> int:
    """The tables that the article has, of any session."""
    from sessions.export.article import article_tables, prepared_model
    from sessions.verdict.comparison import ComparisonError, compare
    from tui.print.article_view import print_article

    try:
        comparison = compare(among, [(folder.id, None)])
        tables = article_tables(folder.read(), comparison, prepared_model(folder))
    except (ComparisonError, SessionError) as error:
        raise UsageError(str(error)) from None
    if not any(rate is not None for _, rate in tables.methods):
        raise UsageError(f"No timed request of {folder.id} succeeded, so there is nothing to report.")
    if as_json:
        document = {"session": folder.id, "tool": ARTICLE} | asdict(tables)
        sys.stdout.write(json_document(document))
    else:
        print_article(console(), tables)
    return EXIT_OK


def _figure(quantity: Quantity) -> str:
    if quantity.value is None:
        return UNKNOWN
    return f"{quantity.value:.4g}" if quantity.value < 10_000 else f"{quantity.value:.0f}"
