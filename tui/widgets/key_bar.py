"""The keys of the screen in one line: the screens, what can be done here, and help, where the rest is."""

from __future__ import annotations

from dataclasses import replace

from rich.cells import cell_len
from textual import events
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Input

from tui.widgets.drawn_lines import DrawnLines, Piece

SCREENS = "screen."
HELP = "app.help"
Item = tuple[str, str, str]  # the key as it is shown, what it does, and the key as it is pressed


class KeyBar(DrawnLines):
    """Drawn as one line, because Textual's footer is a widget a key and cuts the last ones off on narrow screens.

    What a narrow screen has no room for is counted, the last ones of the screen's list first: help has it.
    """

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
        shown = self._offered()
        screens = [binding for name, binding in shown.items() if name.startswith(SCREENS)]
        others = [self._item(binding) for name, binding in shown.items() if name not in (HELP, *map(_name, screens))]
        help_key = [self._item(binding) for name, binding in shown.items() if name == HELP]
        first = [self._item(binding) for binding in screens]
        if isinstance(self.screen.focused, Input):
            others = [*self._way_out(), *others]
            help_key = [
                self._item(replace(binding, key_display=None)) for name, binding in shown.items() if name == HELP
            ]
        if screens and _width([*first, *others, *help_key]) > width:
            first = [(f"{first[0][0]}–{first[-1][0]}", "screens", "")]
        left_out = 0
        while others and _width([*first, *others, *help_key]) > width:
            others.pop()
            left_out += 1
            help_key = [(key, f"{left_out} more", press) for key, _, press in help_key]
        line: list[Piece] = []
        self._places, at = [], 0
        for key, words, press in (*first, *others, *help_key):
            line += [(key, "accent"), (f" {words}  ", "")]
            end = at + cell_len(key) + cell_len(words) + 3
            self._places.append((at, end, press))
            at = end
        return [line]

    def _offered(self) -> dict[str, Binding]:
        """What can be done now, by name: also by a key of the screen that what has the focus passes on to it."""
        active = self.screen.active_bindings
        shown: dict[str, Binding] = {}
        for _, binding, enabled, _ in active.values():
            if enabled and binding.show:
                shown.setdefault(_name(binding), binding)
        for key, binding in self.screen._bindings:
            passed_on = key in active and not active[key].binding.id and binding.id
            if passed_on and binding.show and self.app._check_action_state(binding.action, self.screen):
                shown.setdefault(_name(binding), binding)
        own = {_name(binding): place for place, (_, binding) in enumerate(self.screen._bindings)}
        return dict(sorted(shown.items(), key=lambda item: own.get(item[0], -1)))

    def _way_out(self) -> list[Item]:
        """Of a field, in which the other keys are text."""
        found = self.screen.active_bindings.get("escape")
        if found is None or not found.enabled or found.binding.show:
            return []
        return [(self.app.get_key_display(found.binding), found.binding.tooltip.lower(), found.binding.key)]

    def _item(self, binding: Binding) -> Item:
        return self.app.get_key_display(binding), binding.description, binding.key

    def on_click(self, event: events.Click) -> None:
        x = event.x - self.gutter.left
        for start, end, press in self._places:
            if start <= x < end and press:
                self.app.simulate_key(press)


def _name(binding: Binding) -> str:
    return binding.id or binding.action


def _width(items: list[Item]) -> int:
    """Without the two blanks after the last one."""
    return sum(cell_len(key) + cell_len(words) + 3 for key, words, _ in items) - 2
