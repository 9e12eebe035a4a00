"""A widget that draws whole lines and refreshes only the cells that differ from what it drew before.

Textual has no cell diff of its own: it renders a refreshed region whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tui.widgets.cell_difference import cells_of, difference
from tui.widgets.theme import drawn_in
from tui.words.terminal_text import printable

Piece = tuple[str, str]  # text and the name of one of the component classes below, or ""


class DrawnLines(Widget, can_focus=False):
    """Subclasses give `draw(width)`: each line a list of pieces of text with the name of their style.

    No text of theirs commands the terminal, wherever it came from.
    `show()` draws again and refreshes what changed. The names of styles are the component classes without `drawn--`,
    and those of `method_style`.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "drawn--title",
        "drawn--dim",
        "drawn--good",
        "drawn--warning",
        "drawn--bad",
        "drawn--accent",
        "drawn--bar",
        "drawn--strong",
        "drawn--text",
    }

    DEFAULT_CSS = """
    DrawnLines {
        height: auto;
        & > .drawn--title { color: $text; text-style: bold; }
        & > .drawn--dim { color: $text-muted; }
        & > .drawn--good { color: $text-success; }
        & > .drawn--warning { color: $text-warning; }
        & > .drawn--bad { color: $text-error; }
        & > .drawn--accent { color: $text-accent; }
        & > .drawn--bar { color: $primary; }
        & > .drawn--strong { text-style: bold; }
        & > .drawn--text { color: $text; }
    }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id, classes=classes)
        self._lines: list[list[Piece]] = []
        self._strips: list[Strip] = []
        self._drawn_size = Size()
        self._drawn_styles: dict[str, Style] = {}

    def draw(self, width: int) -> list[list[Piece]]:
        """The lines for this many columns."""
        raise NotImplementedError

    def show(self) -> None:
        """Draw again; refresh the cells that changed, or the layout where the number of lines did."""
        width = self.content_size.width
        if not width:
            return
        before, self._strips = self._strips, self._draw_strips(width)
        if len(before) != len(self._strips) and self.styles.height is not None and self.styles.height.is_auto:
            self.refresh(layout=True)
            return
        changed = [
            Region(start, y, end - start, 1)
            for y in range(max(len(before), len(self._strips)))
            for start, end in _changed(_at(before, y, width), _at(self._strips, y, width))
        ]
        if changed:
            self.refresh(*changed)

    def _draw_strips(self, width: int) -> list[Strip]:
        """A strip for each line; for one that is as it was before, that very strip, with what Textual keeps in it."""
        before = self._lines if self._drawn_size.width == width else []
        self._drawn_size = self.content_size  # of its height too: a curve is drawn to it
        self._lines = self.draw(width)
        return [
            self._strips[y] if y < len(before) and before[y] == line else self._strip(line, width)
            for y, line in enumerate(self._lines)
        ]

    def _strip(self, line: Iterable[Piece], width: int) -> Strip:
        segments = [Segment(printable(text), self._style(name)) for text, name in line if text]
        return Strip(segments).adjust_cell_length(width, self._style(""))

    def _style(self, name: str) -> Style:
        style = self._drawn_styles.get(name)
        if style is None:
            style = self.rich_style
            if name:
                own = drawn_in(name, style, self.app.current_theme, self.app.no_color)
                style = own or self.get_component_rich_style(f"drawn--{name}")
            self._drawn_styles[name] = style
        return style

    def notify_style_update(self) -> None:
        """The theme or background changed: strips carry colours and are redrawn."""
        super().notify_style_update()
        self._drawn_styles.clear()
        self._drawn_size = Size()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport
        return len(self.draw(width)) if width else 0

    def render_line(self, y: int) -> Strip:
        width = self.content_size.width
        if self.content_size != self._drawn_size:
            self._strips = self._draw_strips(width)
        return self._strips[y] if y < len(self._strips) else Strip.blank(width, self._style(""))


def _at(strips: list[Strip], y: int, width: int) -> Strip:
    return strips[y] if y < len(strips) else Strip.blank(width)


def _changed(before: Strip, after: Strip) -> list[tuple[int, int]]:
    return [] if before is after or before == after else difference(cells_of(before), cells_of(after))
