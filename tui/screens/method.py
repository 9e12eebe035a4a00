"""Method: its recipe as TOML, a copy of it to change, and what it came to on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static
from textual.worker import get_current_worker

from tui.read.method_history import Earlier
from tui.screens.ask import AskText, Confirm
from tui.screens.editor import edit
from tui.screens.workbench_screen import WorkbenchScreen
from tui.widgets.key_bar import KeyBar
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.widgets.theme import titled
from tui.words import figures
from tui.words.terminal_text import one_line, plain

WIDE = 160


class MethodScreen(WorkbenchScreen):
    """Two panels: the recipe, and the sessions of this home that have the method."""

    CSS_PATH = "method.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "back", id="method.close", tooltip="Go back"),
        Binding("y", "copy", "copy", id="method.copy", tooltip="Copy the recipe to the terminal's clipboard"),
        Binding("w", "mine", "make it mine", id="method.mine", tooltip="Write a copy of your own and edit it"),
    ]

    class Recipe(Message):
        """The recipe was read, or the sentence that says why not."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class History(Message):
        """The sessions with the method, as far as they are known."""

        def __init__(self, rows: Sequence[Earlier]) -> None:
            super().__init__()
            self.rows = rows

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method
        self.recipe = ""

    def compose(self) -> ComposeResult:
        yield Static(Content(f"method {plain(self.method)}"), id="head")
        columns: list[ListColumn[Earlier]] = [
            ListColumn("when", 16, _when, sort=lambda row: row.created_ns),
            ListColumn("model", 12, lambda row: one_line(row.model, 60), grow=2, sort=lambda row: row.model),
            ListColumn("device", 6, lambda row: one_line(row.device, 12), need=100, sort=lambda row: row.device),
            ListColumn("tok/s", 11, _rate_cell, right=True, sort=_rate),
            ListColumn("±95 %", 5, _half_width, right=True),
            ListColumn("× ref", 5, _ratio_cell, right=True),
            ListColumn("memory", 8, _memory_cell, right=True, need=84),
            ListColumn("in effect", 9, _effect_cell, need=70),
        ]
        with Container(id="parts"):
            with titled(VerticalScroll(id="recipe"), "recipe"):
                yield Static("", id="recipe-text", markup=False)
            with titled(Container(id="history"), "on this machine"):
                yield RowList(columns, lambda row: row.session, empty="Reading the sessions…", id="history-list")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#history-list").focus()
        self.load()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= WIDE, "wide")
        self.set_class(event.size.width < WIDE, "narrow")

    # What is shown

    @work(thread=True, exclusive=True, group="method", exit_on_error=False, name="Reading the method")
    def load(self) -> None:
        from methods.catalogue.catalogue import load_catalogue
        from methods.catalogue.recipe import RecipeError, recipe
        from tui.read.method_history import history

        worker, app = get_current_worker(), self.workbench
        try:
            self.post_message(self.Recipe(recipe(load_catalogue(app.config), self.method)))
        except RecipeError as error:
            self.post_message(self.Recipe(f"# {error}\n"))
        for rows in history(app.store, self.method):
            if worker.is_cancelled:
                return
            self.post_message(self.History(rows))

    @on(Recipe)
    def show_recipe(self, event: Recipe) -> None:
        self.recipe = event.text
        self.query_one("#recipe-text", Static).update(Content(plain(event.text)))

    @on(History)
    def show_history(self, event: History) -> None:
        self.query_one("#history-list", RowList).show_rows(event.rows, "No session here has measured it yet.")

    @on(RowList.Chosen)
    def open_session(self, event: RowList.Chosen) -> None:
        event.stop()
        self.workbench.open_session(event.row.session)

    # Keys

    def action_close(self) -> None:
        if self.app.screen is self:  # keys come faster than screens go
            self.app.pop_screen()

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self.recipe)
        self.workbench.notify("The recipe is in the clipboard, where the terminal takes it.")

    @work(exclusive=True, group="mine", exit_on_error=False, name="Making a method of yours")
    async def action_mine(self) -> None:
        from methods.catalogue.recipe import RecipeError, make_own

        own = await self.app.push_screen_wait(AskText(f"Name of your copy of {self.method}", f"{self.method}-mine"))
        if own is None or not own.strip():
            return
        own, app = own.strip(), self.workbench
        try:
            file = await asyncio.to_thread(make_own, self.method, own, app.config)
        except RecipeError as error:
            app.notify(str(error), severity="error", timeout=12)
            return
        if made := await self._edited(file):
            words = "is a method now" if len(made) == 1 else "are methods now"
            app.notify(f"{' and '.join(made)} {words}: tick it on Run. Its file is {file}.", timeout=12)

    async def _edited(self, file: Path) -> tuple[str, ...]:
        """The methods in the file as the editor left it, which is opened again while the catalogue rejects something,
        or until the user leaves it at that."""
        from methods.catalogue.recipe import judged

        app = self.workbench
        while True:
            if failed := edit(app, file):
                app.notify(failed, severity="warning", timeout=15)
            found = await asyncio.to_thread(judged, file, app.config)
            if not found.problems:
                return found.methods
            again = Confirm(f"{' '.join(found.problems)} Open it again? As it is, that is left out.")
            if not await self.app.push_screen_wait(again):
                return ()


def _when(row: Earlier) -> str:
    return (
        f"{datetime.fromtimestamp(row.created_ns / 1e9).astimezone():%Y-%m-%d %H:%M}" if row.created_ns else row.session
    )


def _rate(row: Earlier) -> float | None:
    return row.figures.tok_s_mean if row.figures is not None else None


def _rate_cell(row: Earlier) -> Cell:
    """Where nothing was measured, how the session ended."""
    rate = _rate(row)
    return figures.rate(rate) if rate is not None or row.status == "finished" else (row.status, "dim")


def _half_width(row: Earlier) -> str:
    found = row.figures
    if found is None or found.tok_s_low is None or found.tok_s_high is None:
        return figures.UNKNOWN
    return figures.rate((found.tok_s_high - found.tok_s_low) / 2)


def _ratio_cell(row: Earlier) -> str:
    return figures.ratio(row.figures.ratio if row.figures is not None else None)


def _memory_cell(row: Earlier) -> str:
    found = row.figures
    if found is None:
        return figures.UNKNOWN
    return figures.size(found.peak_rss_bytes if row.device == "cpu" else found.peak_vram_bytes)


def _effect_cell(row: Earlier) -> Cell:
    effect = row.figures.in_effect if row.figures is not None else None
    return (figures.yes_no(effect), "" if effect is None else "good" if effect else "bad")
