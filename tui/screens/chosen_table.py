"""A screen with the table of a comparison: which columns it has, how it is sorted, and its export."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from textual import work
from textual.binding import Binding
from textual.getters import query_one

from sessions.verdict.table_choice import ALL, NAMES, TableChoice
from tui.screens.choose_columns import ChooseColumns
from tui.screens.workbench_screen import WorkbenchScreen
from tui.settings import FILE, save_settings
from tui.widgets.comparison_table import ComparisonTable
from tui.words.chosen_lines import ARROWS

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison

NOTHING = "Nothing selected: press p, tick methods with space, then p again."

TABLE_KEYS: Final[tuple[Binding, ...]] = (
    Binding("e", "export", "export", id="compare.export", tooltip="Write the table as CSV"),
    Binding("c", "columns", "columns", id="compare.columns", tooltip="Choose the table's columns and its order"),
    Binding("o", "sort", "sort", id="compare.sort", tooltip="Sort the table by its next column", show=False),
    Binding("O", "reverse", "reverse", id="compare.reverse", tooltip="Reverse the table's order", show=False),
)


class ChosenTable(WorkbenchScreen):
    """`choice` is kept in the settings; the CSV has what the table has."""

    table = query_one("#table", ComparisonTable)

    def __init__(self) -> None:
        super().__init__()
        self.comparison: Comparison | None = None
        self.problem = ""
        self.choice = ALL

    def take_kept_choice(self) -> None:
        """Show the table as the settings have it."""
        settings = self.workbench.settings
        try:
            self._choose(TableChoice.of(settings.columns, settings.sort))
        except ValueError as error:
            said = f"The columns in {self.workbench.config / FILE} were ignored. {error}"
            self.workbench.notify(said, severity="warning", timeout=12, markup=False)

    def _choose(self, choice: TableChoice) -> None:
        self.choice = choice
        self.table.show_choice(choice)
        by = f" · by {choice.sort}{ARROWS[choice.descending]}" if choice.sort else ""
        self.query_one("#figures").border_title = f"figures{by}"

    def _keep(self, choice: TableChoice) -> None:
        """Choose it, for the next time too."""
        self._choose(choice)
        chosen: dict[str, str | list[str]] = {"columns": list(choice.columns), "sort": choice.sort_words}
        if problem := save_settings(self.workbench.config, "The columns were", chosen):
            self.workbench.notify(problem, severity="warning", timeout=12, markup=False)

    @work(exit_on_error=False, name="Choosing columns")
    async def action_columns(self) -> None:
        under_load = self.comparison is not None and any(
            column.key == "point" for column in self.comparison.columns.data
        )
        chosen = await self.app.push_screen_wait(ChooseColumns(self.choice, under_load))
        if chosen is not None and chosen != self.choice:
            self._keep(chosen)

    def action_sort(self) -> None:
        """By the next column that is shown; after the last one, the order in which the rows came."""
        if self.comparison is None:
            return
        known = [column.key for column in self.comparison.columns.data]
        shown = [column.key for column in self.comparison.columns.lines(self.comparison.rows)]
        keys = [key for key in self.choice.columns or shown if key in known and key not in NAMES]
        place = keys.index(self.choice.sort) + 1 if self.choice.sort in keys else 0
        self._sorted(replace(self.choice, sort=keys[place] if place < len(keys) else "", descending=False))

    def action_reverse(self) -> None:
        if self.choice.sort:
            self._sorted(replace(self.choice, descending=not self.choice.descending))

    def _sorted(self, choice: TableChoice) -> None:
        self._keep(choice)
        said = f"Sorted by {choice.sort}{', highest first' if choice.descending else ''}."
        self.workbench.notify(said if choice.sort else "In the order of the session again.", markup=False, timeout=3)

    def action_export(self) -> None:
        if self.comparison is None:
            self.workbench.notify(self.problem or NOTHING, markup=False)
            return
        self._export(self.comparison, self.choice)

    @work(thread=True, exit_on_error=False, name="Exporting")
    def _export(self, comparison: Comparison, choice: TableChoice) -> None:
        from sessions.export.csv_export import ExportError, write_comparison_csv

        app = self.workbench
        path = Path(f"kasoku-compare-{datetime.now().astimezone():%Y%m%d-%H%M%S}.csv")
        try:
            written = write_comparison_csv(comparison, path, choice=choice)
        except ExportError as error:
            app.call_from_thread(app.notify, str(error), severity="error", markup=False, timeout=10)
        else:
            app.call_from_thread(app.notify, f"Wrote {written}", markup=False, timeout=10)
