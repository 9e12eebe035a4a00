"""A widget that draws whole lines and repaints only the cells that differ from what is on the screen.

Textual has no cell diff of its own: a refreshed region is written out whole, which on a slow link is what costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

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
            for start, end in difference(_at(before, y, width), _at(self._strips, y, width), width)
        ]
        if changed:
            self.refresh(*changed)

    def _draw_strips(self, width: int) -> list[Strip]:
        self._drawn_size = self.content_size  # of its height too: a curve is drawn to it
        return [self._strip(line, width) for line in self.draw(width)]

    def _strip(self, line: Iterable[Piece], width: int) -> Strip:
        base = self._style("")
        strip = Strip([Segment(printable(text), self._style(name)) for text, name in line if text])
        return strip.adjust_cell_length(width, base)

    def _style(self, name: str) -> Style:
        style = self._drawn_styles.get(name)
        if style is None:
            style = self.rich_style
            if name:
                own = drawn_in(name, style, dark=self.app.current_theme.dark)
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


JOINED_CELLS = 6  # two changes nearer than this are cheaper as one: a cursor move costs about as many bytes


def difference(before: Strip, after: Strip, width: int) -> list[tuple[int, int]]:
    """Spans [start, end) of cells in which two lines differ, those close to each other joined."""
    if before == after:
        return []
    old, new = _cells(before, width), _cells(after, width)
    spans: list[tuple[int, int]] = []
    for x in range(width):
        if old[x] == new[x]:
            continue
        if spans and x - spans[-1][1] < JOINED_CELLS:
            spans[-1] = (spans[-1][0], x + 1)
        else:
            spans.append((x, x + 1))
    return spans


def _cells(strip: Strip, width: int) -> list[tuple[str, Style | None]]:
    """What each column holds; both halves of a wide character hold it, so that it is repainted whole."""
    from rich.cells import get_character_cell_size

    cells: list[tuple[str, Style | None]] = []
    for text, style, _control in strip:
        if text.isascii():
            cells.extend([(character, style) for character in text])
        else:
            for character in text:
                cells.extend([(character, style)] * get_character_cell_size(character))
    cells.extend([(" ", None)] * (width - len(cells)))
    return cells[:width]
