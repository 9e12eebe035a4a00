"""Methods side by side: a column each where the screen is wide, one below the other where it is narrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len

from sessions.verdict.load_row import LoadRow
from sessions.verdict.result_columns import SENTENCES
from sessions.verdict.table_choice import ALL, TableChoice
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.widgets.theme import method_style, sign_of
from tui.words.cells import cut, fit, unparted
from tui.words.chosen_lines import chosen_lines
from tui.words.point_text import point_text
from tui.words.result_text import heading_with_beside, text_of, text_with_beside, tone_of
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison
    from sessions.verdict.comparison_row import ComparisonRow

LABEL_WIDTH = 15
NOT_COMPARABLE = "NOT COMPARABLE: these sessions differ in {}. Compared anyway because you pressed a."
COLUMN_LEAST, COLUMN_MOST = 22, 36
Differences = Sequence[tuple[str, Mapping[str, object]]]


class ComparisonTable(DrawnLines):
    """Every figure of every row; what differs in the sessions' settings is marked."""

    DEFAULT_CSS = """
    ComparisonTable { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._comparison: Comparison | None = None
        self._message = ""
        self._differences: Differences = ()
        self._choice = ALL

    def show_choice(self, choice: TableChoice) -> None:
        """Show these columns, in this order of the rows."""
        self._choice = choice
        self.refresh(layout=True)
        self.show()

    def show_comparison(self, comparison: Comparison | None, message: str = "", differences: Differences = ()) -> None:
        """Show these rows, or where there are none the message, with the settings that are the reason for it."""
        self._comparison, self._message, self._differences = comparison, message, differences
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        comparison = self._comparison
        if comparison is None or not comparison.rows:
            style = "warning" if self._differences else "dim"
            said = [[(line, style)] for line in wrap("", self._message, width)] if self._message else []
            return [*said, [], *_settings(self._differences, (), width)] if self._differences else said
        rows = self._choice.rows_of(comparison)
        several = len({row.session for row in rows}) > 1
        lines: list[list[Piece]] = []
        if comparison.refused:
            lines += [[(line, "bad")] for line in wrap("", NOT_COMPARABLE.format(", ".join(comparison.refused)), width)]
        places = row_places(comparison.rows)
        if self._choice.columns:
            lines += chosen_lines(
                comparison, self._choice, width, lambda row: method_style(places[(row.session, row.method)])
            )
            return [*lines, *self._below(comparison, width)]
        for _, found in groupby(rows, key=_point):
            own = list(found)
            if isinstance(own[0], LoadRow):
                lines += [[]] if lines else []
                lines.append([(cut(f"{own[0].point}: {point_text(own[0])}", width), "title")])
            lines += self._rows(comparison, own, places, width, several)
        return [*lines, *self._below(comparison, width)]

    def _below(self, comparison: Comparison, width: int) -> list[list[Piece]]:
        """What differs and what holds for all rows, after an empty line."""
        below = _settings(comparison.differences, comparison.refused, width)
        below += [
            [(line, "bad")] for problem in comparison.problems for line in wrap("", one_line(problem, 400), width)
        ]
        below += [[(line, "dim")] for said in comparison.remarks for line in wrap("", one_line(said, 600), width)]
        return [[], *below] if below else []

    def _rows(
        self,
        comparison: Comparison,
        rows: Sequence[ComparisonRow],
        places: Mapping[tuple[str, str], int],
        width: int,
        several: bool,
    ) -> list[list[Piece]]:
        across = max(1, (width - LABEL_WIDTH) // (COLUMN_LEAST + 2))
        groups = -(-len(rows) // across)
        across = -(-len(rows) // groups)  # groups of one size, rather than one row left over
        lines: list[list[Piece]] = []
        for first in range(0, len(rows), across):
            shown = rows[first : first + across]
            column = min(COLUMN_MOST, (width - LABEL_WIDTH) // len(shown) - 2)
            column = max(COLUMN_LEAST, column)
            if lines:
                lines.append([])
            lines += self._group(comparison, shown, places, column, several)
        return lines

    def _group(
        self,
        comparison: Comparison,
        rows: Sequence[ComparisonRow],
        places: Mapping[tuple[str, str], int],
        column: int,
        several: bool,
    ) -> list[list[Piece]]:
        head: list[Piece] = [(" " * LABEL_WIDTH, "")]
        for row in rows:
            style = method_style(places[(row.session, row.method)])
            head.append((fit(f"{sign_of(style)} {one_line(row.method, 60)}", column) + "  ", style))
        lines = [head]
        if several:
            sessions: list[Piece] = [(fit("session", LABEL_WIDTH), "dim")]
            sessions += [(fit(one_line(row.session, 60), column) + "  ", "dim") for row in rows]
            lines.append(sessions)
        columns = comparison.columns
        for line in columns.lines(comparison.rows):
            if line.kind in SENTENCES:
                texts = [text_of(line, row) if line.is_told(row) else "" for row in rows]
                lines += _wrapped(line.heading, texts, [line.tone] * len(rows), column)
                continue
            texts = [text_with_beside(columns, line, row) for row in rows]
            lines += _wrapped(heading_with_beside(columns, line), texts, [tone_of(line, row) for row in rows], column)
        return lines


def row_places(rows: Sequence[ComparisonRow]) -> dict[tuple[str, str], int]:
    """The place of each (session, method), which has one colour at all its points."""
    return {key: place for place, key in enumerate(dict.fromkeys((row.session, row.method) for row in rows))}


def _point(row: ComparisonRow) -> str:
    return row.point if isinstance(row, LoadRow) else ""


def _settings(differences: Differences, refused: Sequence[str], width: int) -> list[list[Piece]]:
    """A line for each setting in which the sessions differ."""
    lines: list[list[Piece]] = []
    for name, values in differences:
        shown = ", ".join(f"{session}: {one_line(str(value), 60)}" for session, value in values.items())
        label = "NOT COMPARABLE, differs" if name in refused else "differs"
        lines += [[(line, "warning")] for line in wrap("", f"≠ {label} in {name}: {shown}", width)]
    return lines


def _wrapped(label: str, texts: list[str], styles: list[str], column: int) -> list[list[Piece]]:
    """Texts wrapped within their columns; nothing where none has any."""
    if not any(texts):
        return []
    told = [one_line(text, 400) for text in texts]
    wrapped = [[text] if cell_len(text) <= column else wrap("", unparted(text), column) for text in told]
    lines: list[list[Piece]] = []
    for number in range(max(map(len, wrapped))):
        line: list[Piece] = [(fit(label if number == 0 else "", LABEL_WIDTH), "dim")]
        for words, style in zip(wrapped, styles, strict=True):
            line.append((fit(cut(words[number], column) if number < len(words) else "", column) + "  ", style))
        lines.append(line)
    return lines
