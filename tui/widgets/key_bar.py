"""The keys of the screen in one line: the screens, what can be done here, and help, where the rest is."""

from __future__ import annotations

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.screen import Screen

from tui.widgets.drawn_lines import DrawnLines, Piece

SCREENS = "screen."
HELP = "app.help"


class KeyBar(DrawnLines):
    """Drawn as one line, because Textual's footer is a widget a key and cuts the last ones off on narrow screens."""

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; background: $panel; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._places: list[tuple[int, int, str]] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._bindings_changed)

    def _bindings_changed(self, screen: Screen[object]) -> None:
        if screen is self.screen and self.is_attached:
            self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        shown: dict[str, Binding] = {}
        for _, binding, enabled, _ in self.screen.active_bindings.values():
            if enabled and binding.show:
                shown.setdefault(binding.id or binding.action, binding)
        screens = [binding for name, binding in shown.items() if name.startswith(SCREENS)]
        help_key = [binding for name, binding in shown.items() if name == HELP]
        others = [binding for name, binding in shown.items() if not name.startswith(SCREENS) and name != HELP]
        items = [self._item(binding) for binding in (*screens, *others, *help_key)]
        if sum(cell_len(key) + cell_len(words) + 3 for key, words, _ in items) > width and screens:
            keys = [self.app.get_key_display(binding) for binding in screens]
            first = (f"{keys[0]}–{keys[-1]}", "screens", "")
            items = [first, *(self._item(binding) for binding in (*others, *help_key))]
        while len(items) > 2 and sum(cell_len(key) + cell_len(words) + 3 for key, words, _ in items) > width + 2:
            items.pop(-2)
        line: list[Piece] = []
        self._places, at = [], 0
        for key, words, press in items:
            line += [(key, "accent"), (f" {words}  ", "")]
            end = at + cell_len(key) + cell_len(words) + 3
            self._places.append((at, end, press))
            at = end
        return [line]

    def _item(self, binding: Binding) -> tuple[str, str, str]:
        return self.app.get_key_display(binding), binding.description, binding.key

    def on_click(self, event: events.Click) -> None:
        x = event.x - self.gutter.left
        for start, end, press in self._places:
            if start <= x < end and press:
                self.app.simulate_key(press)
