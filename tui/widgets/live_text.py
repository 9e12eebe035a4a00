"""The text of the current request as it is generated."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.words.terminal_text import plain


class LiveText(ScrollView, can_focus=True):
    """Text that grows: only the lines that a new piece touches are wrapped and painted again.

    It keeps to the end while the end is in view; a reader who has scrolled up is left where they are.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("end", "scroll_end", "End of text", show=False, id="text.end", tooltip="Follow the text"),
    ]

    DEFAULT_CSS = """
    LiveText {
        overflow-x: hidden;
        overflow-y: scroll;
        scrollbar-size-vertical: 1;
        scrollbar-background: $surface;
        scrollbar-background-hover: $surface;
        scrollbar-background-active: $surface;
        background: $surface;
        color: $text;
        &:focus { background-tint: $foreground 4%; }
    }
    """

    following: var[bool] = var(True)

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._source = ""
        self._lines: list[str] = [""]
        self._wrapped_width = 0
        self._style: Style | None = None

    def notify_style_update(self) -> None:
        """Another theme, or the focus: the style is found again."""
        super().notify_style_update()
        self._style = None

    @property
    def text(self) -> str:
        """What is shown, unwrapped."""
        return self._source

    def show_text(self, text: str) -> None:
        """Show this text; where it only continues what is there, only the end is touched."""
        if text == self._source and self._wrapped_width == self._width:
            return
        if self._wrapped_width != self._width or not text.startswith(self._source):
            first = 0
            self._lines = wrap("", plain(text), self._width)
        else:
            first = len(self._lines) - 1
            self._lines[first:] = wrap(self._lines[first], plain(text[len(self._source) :]), self._width)
        self._source, self._wrapped_width = text, self._width
        self._make_room()
        height, top = self.virtual_size.height, self.scroll_offset.y
        if self.following and height - self.size.height != top:
            self.scroll_to(y=height - self.size.height, animate=False, force=True)
        else:
            self.refresh_lines(first, max(len(self._lines) - first, self.size.height if first == 0 else 1))

    def _make_room(self) -> None:
        """Have blank lines below the text, a quarter of the pane: scrolling repaints all, so it is done in leaps."""
        needed, pane = len(self._lines), self.size.height
        if needed <= pane:
            height = pane
        elif needed <= self.virtual_size.height <= needed + pane // 2:
            return
        else:
            height = needed + pane // 4
        if height != self.virtual_size.height:  # without a layout of the whole screen: nothing moves but the bar
            self.set_reactive(LiveText.virtual_size, Size(self._width, height))
            self.vertical_scrollbar.window_virtual_size = height

    @property
    def _width(self) -> int:
        return max(1, self.scrollable_content_region.width)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and not self.is_vertical_scroll_end:
            self.following = False
        elif self.is_vertical_scroll_end:
            self.following = True

    def on_resize(self) -> None:
        text, self._source = self._source, "\0"
        self.show_text(text)

    def render_line(self, y: int) -> Strip:
        place = y + self.scroll_offset.y
        style = self._style = self._style or self.rich_style
        line = self._lines[place] if place < len(self._lines) else ""
        return Strip([Segment(line, style)]).adjust_cell_length(self.size.width, style)


def wrap(line: str, added: str, width: int) -> list[str]:
    """What stands on the last line and what is added to it, in lines of at most `width` cells, broken at spaces."""
    lines: list[str] = []
    for number, paragraph in enumerate((line + added).split("\n")):
        if number:
            lines.append("")
        elif not lines:
            lines = [""]
        rest = paragraph
        while cell_len(rest) > width:
            at = _cut(rest, width)
            space = rest.rfind(" ", 0, at + 1)
            at = space + 1 if space > 0 else at
            lines[-1] = rest[:at].rstrip(" ")
            lines.append("")
            rest = rest[at:]
        lines[-1] = rest
    return lines


def _cut(text: str, width: int) -> int:
    """How many characters of `text` fill at most `width` cells; one at least."""
    cells = 0
    for index, character in enumerate(text):
        cells += get_character_cell_size(character)
        if cells > width:
            return max(1, index)
    return len(text)
