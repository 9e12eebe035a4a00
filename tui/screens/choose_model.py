"""A list of models in front of the form: what is typed narrows it, or is taken as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from tui.read.models_here import ModelRow
from tui.screens.dismissed_once import DismissedOnce
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.words import figures
from tui.words.terminal_text import one_line

TIGHT = 0.8  # of the free memory: caches and the engine's own need some too
TYPED = "as typed"
MOST_LINES = 18  # of the list, its heading and a row for what is typed


class ChooseModel(DismissedOnce, ModalScreen[str | None]):
    """The answer is what names the model to a run; escape gives None."""

    CSS_PATH = "choose_model.tcss"
    AUTO_FOCUS = "#name"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False, id="models.up", tooltip="One model up"),
        Binding("down", "move(1)", "Down", show=False, id="models.down", tooltip="One model down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="models.page_up", tooltip="A page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="models.page_down", tooltip="A page down"),
        Binding("escape", "leave", "Cancel", id="models.cancel", tooltip="Leave the model as it is"),
    ]

    def __init__(self, typed: str, free_bytes: int | None, device: str) -> None:
        """`typed` is what the form says now, `free_bytes` what is free on the device of that name."""
        super().__init__()
        self._typed = typed
        self._free_bytes = free_bytes
        self._device = device
        self._models: Sequence[ModelRow] = ()

    def compose(self) -> ComposeResult:
        columns: list[ListColumn[ModelRow]] = [
            ListColumn("model", 24, _name_cell, grow=2),
            ListColumn("weights", 8, lambda row: figures.size(row.weights_bytes), right=True),
            ListColumn("of free", 8, self._share_cell, right=True),
            ListColumn("", 18, lambda row: (row.state, "good" if row.state == "ready" else "dim")),
            ListColumn("", 10, lambda row: (one_line(row.about), "dim"), grow=3, need=90),
        ]
        with Vertical(id="choice") as box:
            box.border_title = "model"
            free = f"{figures.size(self._free_bytes)} free on {self._device} · " if self._free_bytes is not None else ""
            box.border_subtitle = f"{free}↑ ↓ choose · enter takes it · esc"
            yield Input(placeholder="narrows the list; or org/name, a folder, a GGUF", id="name", compact=True)
            yield RowList(columns, lambda row: row.spec, empty="Looking for models…", id="models")

    @property
    def _list(self) -> RowList[ModelRow]:
        return self.query_one("#models", RowList)

    def on_mount(self) -> None:
        self._show()

    def show_models(self, models: Sequence[ModelRow]) -> None:
        """The models that are there; the one of the form is under the cursor."""
        self._models = models
        if self.is_mounted and self.is_attached:  # it may have been left before they were read
            self._show()

    def _show(self) -> None:
        self._list.styles.height = min(len(self._models) + 2, MOST_LINES)
        self._narrow()
        self._list.move_to_key(self._typed)

    @on(Input.Changed)
    def _narrow(self) -> None:
        typed = self.query_one("#name", Input).value.strip()
        rows = [row for row in self._models if typed.casefold() in row.spec.casefold()]
        if typed and all(row.spec != typed for row in rows):
            rows.append(ModelRow(typed, TYPED, None))
        self._list.show_rows(rows)
        self._list.action_edge(0)

    def _share_cell(self, row: ModelRow) -> Cell:
        if row.weights_bytes is None or not self._free_bytes:
            return figures.UNKNOWN
        share = row.weights_bytes / self._free_bytes
        said = figures.share(share) if share >= 0.01 else "< 1 %"
        return (f"✗ {said}", "bad") if share > 1 else (f"! {said}", "warning") if share > TIGHT else said

    def action_move(self, step: int) -> None:
        self._list.action_cursor(step)

    def action_page(self, step: int) -> None:
        self._list.action_page(step)

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        event.stop()
        if (row := self._list.row) is not None:
            self.dismiss(row.spec)

    @on(RowList.Chosen)
    def _take_row(self, event: RowList.Chosen) -> None:
        event.stop()
        self.dismiss(event.row.spec)

    def action_leave(self) -> None:
        self.dismiss(None)


def _name_cell(row: ModelRow) -> Cell:
    """A path by its end first, which is what tells it from others."""
    path = Path(row.spec)
    return one_line(f"{path.name} in {path.parent}" if path.is_absolute() else row.spec, 200)
