"""All result columns with what they mean, to tick those of Compare's table and say by which it is sorted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from sessions.verdict.column_meanings import meaning_of
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.result_columns import columns_of
from sessions.verdict.table_choice import NAMES, TableChoice, known_columns
from tui.screens.dismissed_once import DismissedOnce
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.words.chosen_lines import ARROWS
from tui.words.figures import UNKNOWN


@dataclass(frozen=True, slots=True)
class ColumnRow:
    """A result column as the list has it."""

    key: str
    heading: str
    unit: str
    meaning: str


class ChooseColumns(DismissedOnce, ModalScreen[TableChoice | None]):
    """The answer is what was chosen; none ticked means all that there is to say, as it is without a choice."""

    CSS_PATH = "choose_columns.tcss"
    AUTO_FOCUS = "#columns"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort", id="columns.sort", tooltip="Sort by this column; again reverses; then not at all"),
        Binding("x", "clear", "all", id="columns.clear", tooltip="Untick every column: the table says all again"),
        Binding("slash", "filter", "filter", id="columns.filter", tooltip="Filter the columns", key_display="/"),
        Binding("escape,c,q", "leave", "done", id="columns.leave", tooltip="Go back, with what is ticked"),
    ]

    def __init__(self, choice: TableChoice, under_load: bool) -> None:
        """`under_load`: the comparison knows the columns of loads too."""
        super().__init__()
        self.choice = choice
        plain = {column.key for column in columns_of(ComparisonRow).data}
        self._rows = [
            ColumnRow(key, column.heading, "" if column.unit == UNKNOWN else column.unit, meaning_of(key))
            for key, column in known_columns().items()
            if key not in NAMES and (under_load or key in plain or key in choice.columns)
        ]

    def compose(self) -> ComposeResult:
        columns: list[ListColumn[ColumnRow]] = [
            ListColumn("column", 26, self._key_cell),
            ListColumn("heading", 13, lambda row: (row.heading, "dim"), need=100),
            ListColumn("unit", 11, lambda row: (row.unit, "dim"), need=90),
            ListColumn("what it is", 20, lambda row: row.meaning, grow=1),
        ]
        with Vertical(id="choice") as box:
            box.border_title = "columns of the table"
            box.border_subtitle = "space ticks · s sorts by it · x none ticked: all · / filters · esc"
            yield Input(placeholder="/ to filter", id="column-filter", compact=True)
            yield RowList(columns, lambda row: row.key, markable=True, empty="No column matches.", id="columns")

    @property
    def _list(self) -> RowList[ColumnRow]:
        return self.query_one("#columns", RowList)

    def on_mount(self) -> None:
        self._list.show_rows(self._rows)
        self._list.mark(self.choice.columns)
        if self.choice.columns:
            self._list.move_to_key(self.choice.columns[0])

    def _key_cell(self, row: ColumnRow) -> Cell:
        return (row.key + ARROWS[self.choice.descending], "accent") if row.key == self.choice.sort else row.key

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        words = event.value.casefold().split()
        named = [row for row in self._rows if all(word in row.key for word in words)]
        meant = [row for row in self._rows if all(word in f"{row.heading} {row.meaning}".casefold() for word in words)]
        self._list.show_rows([*named, *(row for row in meant if row not in named)])
        self._list.action_edge(0)

    @on(Input.Submitted)
    def _filtered(self) -> None:
        self._list.focus()

    @on(RowList.Chosen)
    def _tick(self, event: RowList.Chosen) -> None:
        event.stop()
        self._list.action_mark()

    @on(RowList.Marked)
    def _take_ticks(self) -> None:
        self.choice = replace(self.choice, columns=tuple(self._list.marked))

    def action_filter(self) -> None:
        self.query_one("#column-filter", Input).focus()

    def action_clear(self) -> None:
        self._list.mark(())

    def action_sort(self) -> None:
        row = self._list.row
        if row is None:
            return
        if row.key != self.choice.sort:
            self.choice = replace(self.choice, sort=row.key, descending=False)
        elif not self.choice.descending:
            self.choice = replace(self.choice, descending=True)
        else:
            self.choice = replace(self.choice, sort="", descending=False)
        self._list.refresh()

    def action_leave(self) -> None:
        if self.query_one("#column-filter", Input).has_focus:
            self._list.focus()
        else:
            self.dismiss(self.choice)
