"""Help: what each key does, with its name in settings.toml, and the meaning of the marks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widget import Widget
from textual.widgets import Static

from tui.screens.dismissed_once import DismissedOnce
from tui.settings import FILE
from tui.widgets.facts import Facts
from tui.words.fact import Fact

KEY_WIDTH = 12
MARKS = (
    ("▶ ✓ ✗ ■ ·", "running, completed, failed, stopped, waiting"),
    ("±", "half-width of the 95 % interval of the mean; needs three blocks"),
    ("× ref", "tokens/s relative to the method's reference, paired by block"),
    ("verdict", "shown at the end; until then intervals are not Holm-corrected"),
    ("in effect", "whether the method's evidence holds; checked after its last timed request"),
    ("–", "unknown, or not reported by this machine; never 0"),
)


class HelpScreen(DismissedOnce, ModalScreen[None]):
    """The keys of the screen below, then those that hold everywhere."""

    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "close", "Close", id="help.close", tooltip="Go back"),
    ]

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        self._below = below

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="help"):
            yield Static(Content("Help: escape closes it, ctrl+p opens the command palette"))
            seen: set[str] = set()
            focused = self._below.focused
            around = [node for node in focused.ancestors if isinstance(node, Widget)] if focused is not None else []
            groups: list[tuple[str, Iterable[Any]]] = [("On this screen", [self._below, *around])]
            if focused is not None:
                groups.append(("In the focused widget", [focused]))
            groups.append(("Everywhere", [self.app]))
            for title, nodes in groups:
                rows = [row for node in nodes for row in self._rows(node, seen)]
                if rows:
                    yield Static(Content(title), classes="pane-title")
                    yield Facts(rows, label_width=KEY_WIDTH, label_style="accent")
            yield Static(Content("Legend"), classes="pane-title")
            yield Facts([Fact(mark, words) for mark, words in MARKS], label_width=KEY_WIDTH)
            yield Static(Content("Settings"), classes="pane-title")
            yield Static(
                Content(
                    f"{self.app.config / FILE}: theme, mouse, fps, and [keymap] with the names in brackets above."  # type: ignore[attr-defined]
                )
            )

    def _rows(self, node: Any, seen: set[str]) -> Iterable[Fact]:
        """A line for each named binding of a node as the user's keymap has it."""
        for _, binding in node._bindings:
            if binding.id is None or binding.id in seen:
                continue
            seen.add(binding.id)
            key = self.app.get_key_display(binding)
            yield Fact(key, f"{binding.tooltip or binding.description} [{binding.id}]")

    def action_close(self) -> None:
        self.dismiss()
