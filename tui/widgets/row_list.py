"""A list of rows in columns of which only the lines in view are ever drawn: thousands of rows cost what forty do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import var
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.widgets.theme import drawn_in
from tui.words.cells import cut, fit
from tui.words.terminal_text import printable

T = TypeVar("T")
Cell = str | tuple[str, str]  # text, or text and the name of its style
STYLES = ("dim", "good", "warning", "bad", "accent", "strong", "head", "cursor", "cursor-blurred")


@dataclass(frozen=True, slots=True)
class ListColumn(Generic[T]):
    """A column: `width` cells, or where `grow` is given at least that and a share of what is left over.

    It is dropped where the list is narrower than `need`. `sort` makes it one that can be sorted by; None sorts last.
    """

    title: str
    width: int
    cell: Callable[[T], Cell]
    grow: int = 0
    right: bool = False
    need: int = 0
    sort: Callable[[T], Any] | None = None


class RowList(ScrollView, Generic[T], can_focus=True):
    """Rows with a cursor, and with boxes to tick where it is `markable`. A row is known by `key(row)`.

    Space on a row that cannot be ticked does what enter does.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "cursor(-1)", "Up", show=False, id="list.up", tooltip="One row up"),
        Binding("down", "cursor(1)", "Down", show=False, id="list.down", tooltip="One row down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list.page_up", tooltip="A page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list.page_down", tooltip="A page down"),
        Binding("home", "edge(0)", "First", show=False, id="list.first", tooltip="The first row"),
        Binding("end", "edge(1)", "Last", show=False, id="list.last", tooltip="The last row"),
        Binding("space", "mark", "tick", id="list.mark", tooltip="Tick or untick this row"),
        Binding("enter", "choose", "Open", show=False, id="list.choose", tooltip="Open this row"),
        Binding("o", "sort", "Sort", show=False, id="list.sort", tooltip="Sort by the next column"),
        Binding("O", "reverse", "Reverse", show=False, id="list.reverse", tooltip="Reverse the order"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"row-list--{name}" for name in (*STYLES, "head", "cursor", "cursor-blurred")
    }

    DEFAULT_CSS = """
    RowList {
        height: 1fr;
        overflow-x: hidden;
        scrollbar-size-vertical: 1;
        background: $surface;
        & > .row-list--head { color: $text-muted; text-style: bold; }
        & > .row-list--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
        & > .row-list--cursor-blurred { background: $panel; }
        & > .row-list--dim { color: $text-muted; }
        & > .row-list--good { color: $text-success; }
        & > .row-list--warning { color: $text-warning; }
        & > .row-list--bad { color: $text-error; }
        & > .row-list--accent { color: $text-accent; }
        & > .row-list--strong { text-style: bold; }
    }
    """

    cursor: var[int] = var(0)

    class Highlighted(Message):
        """The cursor stands on another row (None: there are no rows)."""

        def __init__(self, row_list: RowList[Any], row: Any) -> None:
            super().__init__()
            self.row_list, self.row = row_list, row

        @property
        def control(self) -> RowList[Any]:
            return self.row_list

    class Chosen(Message):
        """Enter, or a second click, on a row."""

        def __init__(self, row_list: RowList[Any], row: Any) -> None:
            super().__init__()
            self.row_list, self.row = row_list, row

        @property
        def control(self) -> RowList[Any]:
            return self.row_list

    class Marked(Message):
        """The ticks have changed."""

        def __init__(self, row_list: RowList[Any]) -> None:
            super().__init__()
            self.row_list = row_list

        @property
        def control(self) -> RowList[Any]:
            return self.row_list

    def __init__(
        self,
        columns: Sequence[ListColumn[T]],
        key: Callable[[T], str],
        *,
        markable: bool = False,
        can_be_ticked: Callable[[T], bool] | None = None,
        empty: str = "",
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self._columns = columns
        self._key = key
        self._markable = markable
        self._can_be_ticked = can_be_ticked
        self._empty = empty
        self._given: Sequence[T] = ()
        self._rows: Sequence[T] = ()
        self._marks: dict[str, None] = {}
        self._sorted_by: int | None = None
        self._reversed = False
        self._drawn_styles: dict[str, Style] = {}
        self._highlighted: str | None = None

    # Rows

    @property
    def rows(self) -> Sequence[T]:
        """The rows in the order in which they are shown."""
        return self._rows

    @property
    def row(self) -> T | None:
        """The row under the cursor."""
        return self._rows[self.cursor] if 0 <= self.cursor < len(self._rows) else None

    @property
    def marked(self) -> list[str]:
        """Keys of the ticked rows, in the order in which they were ticked."""
        return list(self._marks)

    def show_rows(self, rows: Sequence[T], empty: str | None = None) -> None:
        """Show these rows; the cursor stays on the row it was on, where that is still there."""
        before = self.row
        self._given = rows
        self._empty = self._empty if empty is None else empty
        self._arrange(before)

    def _arrange(self, stay_on: T | None) -> None:
        rows = self._given
        if self._sorted_by is not None and (sort := self._columns[self._sorted_by].sort) is not None:
            known = [row for row in rows if sort(row) is not None]
            rows = sorted(known, key=sort, reverse=self._reversed) + [row for row in self._given if sort(row) is None]
        self._rows = rows
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        place = 0
        if stay_on is not None:
            kept = self._key(stay_on)
            place = next((index for index, row in enumerate(rows) if self._key(row) == kept), self.cursor)
        self._move_to(place, force=True)
        self.refresh()

    def mark(self, keys: Iterable[str]) -> None:
        """Tick exactly these rows."""
        self._marks = dict.fromkeys(keys)
        self.refresh()
        self.post_message(self.Marked(self))

    def move_to_key(self, key: str) -> None:
        """Put the cursor on the row of that key, where there is one."""
        for index, row in enumerate(self._rows):
            if self._key(row) == key:
                self._move_to(index)
                return

    # Keys and mouse

    def _move_to(self, place: int, force: bool = False) -> None:
        place = max(0, min(place, len(self._rows) - 1))
        before, self.cursor = self.cursor, place
        row = self.row
        key = self._key(row) if row is not None else None
        if key != self._highlighted or force:
            changed = key != self._highlighted
            self._highlighted = key
            if changed:
                self.post_message(self.Highlighted(self, row))
        if self.size.height > 1:
            self.scroll_to_region(Region(0, place + 1, 1, 1), animate=False, force=True)
            if place < self.scroll_offset.y:
                self.scroll_to(y=place, animate=False)
        self._refresh_row(before)
        self._refresh_row(place)

    def _refresh_row(self, place: int) -> None:
        self.refresh_line(place + 1)

    def action_cursor(self, step: int) -> None:
        self._move_to(self.cursor + step)

    def action_page(self, step: int) -> None:
        self._move_to(self.cursor + step * max(1, self.size.height - 2))

    def action_edge(self, last: int) -> None:
        self._move_to(len(self._rows) - 1 if last else 0)

    def action_mark(self) -> None:
        row = self.row
        if row is None or not self._markable:
            return
        if not self._has_box(row):
            self.action_choose()
            return
        key = self._key(row)
        if key in self._marks:
            del self._marks[key]
        else:
            self._marks[key] = None
        self._refresh_row(self.cursor)
        self.post_message(self.Marked(self))

    def _has_box(self, row: T) -> bool:
        return self._markable and (self._can_be_ticked is None or self._can_be_ticked(row))

    def action_choose(self) -> None:
        if (row := self.row) is not None:
            self.post_message(self.Chosen(self, row))

    def action_sort(self) -> None:
        """Sort by the next column that can be sorted by; after the last one, the order that was given."""
        places = [place for place, column in enumerate(self._columns) if column.sort is not None]
        later = [place for place in places if self._sorted_by is None or place > self._sorted_by]
        self._sorted_by, self._reversed = (later[0] if later else None), False
        self._arrange(self.row)

    def action_reverse(self) -> None:
        self._reversed = not self._reversed
        self._arrange(self.row)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        return self._markable if action == "mark" else True

    def on_click(self, event: events.Click) -> None:
        place = event.y + self.scroll_offset.y - 1
        if event.y < 1 or not 0 <= place < len(self._rows):
            return
        if self._markable and event.x < 4:
            self._move_to(place)
            self.action_mark()
        elif place == self.cursor and event.chain == 2:
            self.action_choose()
        else:
            self._move_to(place)

    # Drawing

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows) + 1)
        self._move_to(self.cursor)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._drawn_styles.clear()

    def _style(self, name: str) -> Style:
        style = self._drawn_styles.get(name)
        if style is None:
            style = self.rich_style
            if name:
                own = drawn_in(name, style, self.app.current_theme, self.app.no_color)
                style = own or self.get_component_rich_style(f"row-list--{name}")
            self._drawn_styles[name] = style
        return style

    def _widths(self, width: int) -> list[tuple[ListColumn[T], int]]:
        columns = [column for column in self._columns if width >= column.need]
        left = width - sum(column.width + 2 for column in columns) - (4 if self._markable else 0)
        shares = sum(column.grow for column in columns)
        return [
            (column, column.width + (max(0, left) * column.grow // shares if column.grow and shares else 0))
            for column in columns
        ]

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        if y == 0:
            return self._head(width)
        place = y + self.scroll_offset.y - 1
        if place >= len(self._rows):
            text = self._empty if not self._rows and y == 1 else ""
            return Strip([Segment(cut(text, width), self._style("dim"))]).adjust_cell_length(width, self._style(""))
        return self._row(self._rows[place], place == self.cursor, width)

    def _head(self, width: int) -> Strip:
        line = "    " if self._markable else ""
        for column, room in self._widths(width):
            arrow = ""
            if self._sorted_by is not None and column is self._columns[self._sorted_by]:
                arrow = " ▼" if self._reversed else " ▲"
            line += fit(column.title + arrow, room, column.right) + "  "
        return Strip([Segment(cut(line.rstrip(), width), self._style("head"))]).adjust_cell_length(
            width, self._style("head")
        )

    def _row(self, row: T, current: bool, width: int) -> Strip:
        over = self._style("cursor" if self.has_focus else "cursor-blurred") if current else None
        base = self._style("")
        segments: list[Segment] = []
        if self._markable:
            ticked = self._key(row) in self._marks
            style = self._style("good") if ticked else self._style("dim")
            box = "[✓] " if ticked else "[ ] " if self._has_box(row) else "    "
            segments.append(Segment(box, _laid(style, over)))
        for column, room in self._widths(width):
            cell = column.cell(row)
            text, name = cell if isinstance(cell, tuple) else (cell, "")
            segments.append(Segment(fit(printable(text), room, column.right) + "  ", _laid(self._style(name), over)))
        if segments and sum(cell_len(segment.text) for segment in segments) > width:
            return Strip(segments).crop(0, width)
        return Strip(segments).adjust_cell_length(width, _laid(base, over))


def _laid(style: Style, over: Style | None) -> Style:
    return style + over if over is not None else style
