"""A result column is declared once, in the row, and is then on every face."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, get_args

import pytest
from rich.console import Console
from textual.app import App, ComposeResult

from sessions.disk.frame_schema import SCHEMAS
from sessions.disk.store import Store
from sessions.export.csv_export import comparison_csv, comparison_rows
from sessions.export.report import Report
from sessions.verdict.comparison import Comparison, compare
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_row import LoadRow
from sessions.verdict.result_columns import Face, Kind, ResultColumn, Stored, columns_of, shown
from tests.tui.screen_text import settled
from tests.verdicts.made_store import make_session
from tui.print.report_page import page
from tui.print.result_table import print_comparison
from tui.widgets.comparison_table import LABEL_WIDTH, ComparisonTable
from tui.words.result_text import TEXTS, heading_with_beside
from tui.words.terminal_text import json_document

DEFINITIONS = Path(__file__).parents[2] / "docs" / "definitions.md"
KEY, HEADING, TEXT, VALUE = "kv_reserved_bytes", "KV cache", "123 MB", 123_000_000


@dataclass(frozen=True, slots=True)
class WiderRow(ComparisonRow):
    """One more figure of the saved runs, and one more sentence."""

    kv_reserved_bytes: int | None = field(
        default=None, metadata=shown(HEADING, "bytes", after="mbu", stored=Stored("runs", KEY, "most"))
    )
    remark: str = field(default="seen on every face", metadata=shown("remark", "sentence"))


@dataclass(frozen=True, slots=True)
class LostRow(ComparisonRow):
    DERIVED: ClassVar = (*ComparisonRow.DERIVED, ResultColumn("status", "status", "text", after="nothing_of_the_kind"))


@pytest.fixture
def wider(tmp_path: Path) -> Comparison:
    """A session of which one method stored the figure, in rows that have a column of it."""
    sizes = {"fast": {KEY: VALUE}}
    made = make_session(tmp_path / "sessions", {"base": [100.0, 101.0, 99.0], "fast": [230.0, 233.0, 228.0]}, run=sizes)
    return compare(Store(tmp_path / "sessions"), [(made.id, None)], row_type=WiderRow)


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield ComparisonTable()


async def screen_of(comparison: Comparison) -> str:
    async with Shown().run_test(size=(120, 40)) as pilot:
        pilot.app.query_one(ComparisonTable).show_comparison(comparison)
        return await settled(pilot)


def printed(comparison: Comparison) -> str:
    out = io.StringIO()
    print_comparison(Console(file=out, width=200, color_system=None), comparison)
    return out.getvalue()


def test_a_column_declared_once_is_in_the_data(wider: Comparison) -> None:
    header, base, fast = csv.reader(io.StringIO(comparison_csv(wider)))
    assert header[-2:] == [KEY, "remark"]  # the new ones come last
    assert (base[-2], fast[-2]) == ("", str(VALUE))
    document = json.loads(json_document(comparison_rows(wider)))
    assert [row[KEY] for row in document] == [None, VALUE]


def test_it_is_in_the_terminal_table(wider: Comparison) -> None:
    heading, base, fast, *sentences = printed(wider).splitlines()
    assert re.search(rf"memory +{HEADING} in effect", heading)
    assert TEXT in fast
    assert TEXT not in base
    assert len([line for line in sentences if "remark: seen on every face" in line]) == 2


@pytest.mark.parametrize("form", ["html", "md"])
def test_it_is_in_the_report(wider: Comparison, form: str) -> None:
    text = page(Report(wider, {(row.session, row.method): row.method for row in wider.rows}, (), ()), form)
    assert text.count(HEADING) == text.count(TEXT) == 1
    assert text.count("remark: seen on every face") == 2
    assert form == "md" or f'title="{KEY}, bytes"' in text


async def test_it_is_on_the_compare_screen(wider: Comparison) -> None:
    text = await screen_of(wider)
    assert re.search(rf"{HEADING} +– +{TEXT}\n", text)
    assert re.search(r"remark +seen on every face +seen on every face\n", text)


async def test_the_compare_screen_says_how_blocks_ended_if_not_all_are_ok() -> None:
    rows = [
        ComparisonRow("s", name, tok_s_mean=5.0, status=status) for name, status in (("a", "ok"), ("b", "failed, ok"))
    ]
    text = await screen_of(Comparison(tuple(rows)))
    assert re.search(r"status +– +failed, ok\n", text)
    assert "status" not in await screen_of(Comparison((rows[0],)))


def test_an_optional_column_that_no_row_has_is_on_no_face(wider: Comparison) -> None:
    without = Comparison(tuple(row for row in wider.rows if row.method == "base"))
    assert HEADING not in printed(without)
    assert HEADING not in page(Report(without, {(row.session, row.method): "" for row in without.rows}, (), ()), "html")
    assert KEY not in [column.key for column in without.columns.lines(without.rows)]
    assert KEY in comparison_rows(without)[0]


def test_a_column_after_one_that_is_not_shown_is_refused() -> None:
    with pytest.raises(ValueError, match="status: declared after a column that no face shows"):
        columns_of(LostRow)


def test_every_kind_has_a_text() -> None:
    assert set(TEXTS) == set(get_args(Kind))


@pytest.mark.parametrize("row_type", [ComparisonRow, LoadRow])
def test_headings_are_told_apart_and_fit(row_type: type[ComparisonRow]) -> None:
    columns = columns_of(row_type)
    for face in get_args(Face):
        headings = [column.heading for column in columns.displayed if face in column.on]
        assert len(headings) == len(set(headings)), face
    assert max(len(heading_with_beside(columns, column)) for column in columns.displayed) < LABEL_WIDTH


def test_stored_figures_are_of_columns_that_are_saved() -> None:
    for frame in ("runs", "requests"):
        stored = columns_of(LoadRow).stored(frame)
        assert stored
        assert {each.column for each in stored.values()} <= set(SCHEMAS[frame])


def test_every_column_is_defined_with_its_heading_and_unit() -> None:
    columns = columns_of(ComparisonRow)
    plain = {column.key: (column.heading, column.unit) for column in (*columns.data, *columns.displayed)}
    assert defined("Result columns") == plain
    under_load = columns_of(LoadRow)
    added = {column.key: (column.heading, column.unit) for column in (*under_load.data, *under_load.displayed)}
    assert defined("Result columns under load") == {key: told for key, told in added.items() if key not in plain}


def defined(title: str) -> dict[str, tuple[str, str]]:
    """Heading and unit of the columns that a section of the page defines."""
    section = DEFINITIONS.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found: dict[str, tuple[str, str]] = {}
    for line in section.splitlines():
        if line.startswith("|"):
            keys, heading, unit, *_ = [*(cell.strip() for cell in line.split("|")[1:]), "", "", ""]
            found |= dict.fromkeys(re.findall(r"`(\w+)`", keys), (heading, unit))
    return found
