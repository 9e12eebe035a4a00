"""The table of chosen result columns: a line a row, at any width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.result_columns import SENTENCES
from sessions.verdict.table_choice import NAMES, TableChoice
from tui.words.cells import fit
from tui.words.result_text import WORDS, text_of, tone_of
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison
    from sessions.verdict.result_columns import ResultColumn

Piece = tuple[str, str]  # text, and how it is meant: dim, bad, … or the style of a method
NAME_MOST: Final = 28
TEXT_MOST: Final = 48
ARROWS: Final = {False: " ▲", True: " ▼"}


@dataclass(frozen=True, slots=True)
class _Column:
    heading: str
    cells: list[Piece]
    right: bool

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.heading, *(text for text, _ in self.cells))))

    def cell(self, place: int) -> Piece:
        text, how = self.cells[place]
        return f" {fit(text, self.width, self.right)}", how


def chosen_lines(
    comparison: Comparison, choice: TableChoice, width: int, style_of: Callable[[ComparisonRow], str]
) -> Iterator[list[Piece]]:
    """A heading and a line for each row; columns that the width does not hold follow below, after the names again."""
    rows = choice.rows_of(comparison)
    columns = choice.columns_of(comparison)
    several = len({row.session for row in rows}) > 1
    points = len({getattr(row, "point", "") for row in rows}) > 1
    names = [f"{row.session[-6:]}:{row.method}" if several else row.method for row in rows]
    if points:
        names = [f"{getattr(row, 'point', '')} {name}" for row, name in zip(rows, names, strict=True)]
    names = [one_line(name, NAME_MOST) for name in names]
    room = max(map(cell_len, [*names, "method"]))
    left = [_column(column, rows, choice) for column in columns if column.key not in NAMES]
    first = True
    while left or first:
        shown = _fitting(left, width - room)
        left = left[len(shown) :]
        if not first:
            yield []
        first = False
        yield [(fit("method", room) + "".join(f" {fit(one.heading, one.width, one.right)}" for one in shown), "title")]
        for place, name in enumerate(names):
            yield [(fit(name, room), style_of(rows[place])), *(one.cell(place) for one in shown)]


def heading_of(column: ResultColumn) -> str:
    """Its heading, or where it has none or one that only goes on from another's its key."""
    return column.key if not column.heading or column.heading.startswith("…") else column.heading


def _column(column: ResultColumn, rows: Sequence[ComparisonRow], choice: TableChoice) -> _Column:
    heading = heading_of(column) + (ARROWS[choice.descending] if column.key == choice.sort else "")
    cells: list[Piece] = [(one_line(text_of(column, row), TEXT_MOST), tone_of(column, row)) for row in rows]
    return _Column(heading, cells, column.kind not in (*WORDS, *SENTENCES, "reasons"))


def _fitting(columns: Sequence[_Column], room: int) -> list[_Column]:
    """The first ones that the room holds, one at least where there is one."""
    shown: list[_Column] = []
    for column in columns:
        if shown and sum(1 + one.width for one in (*shown, column)) > room:
            break
        shown.append(column)
    return shown
