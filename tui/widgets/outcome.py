"""How a session ended: its verdicts, one sentence per method, as on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.verdict.load_row import LoadRow
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.words.cells import unparted
from tui.words.load_lines import load_sentences
from tui.words.terminal_text import one_line
from tui.words.verdict_text import said_of

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison


class Outcome(DrawnLines):
    """Nothing until there is a comparison."""

    DEFAULT_CSS = """
    Outcome { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._comparison: Comparison | None = None

    def show_comparison(self, comparison: Comparison | None) -> None:
        self._comparison = comparison
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        comparison = self._comparison
        if comparison is None:
            return []
        lines: list[list[Piece]] = []
        loads = [row for row in comparison.rows if isinstance(row, LoadRow)]
        for text, style in load_sentences(loads):
            lines += [[(line, style)] for line in wrap("", unparted(text), width)]
        for row in () if loads else comparison.rows:
            name = f"{one_line(row.method or row.session, 60)}: "
            style = "bad" if row.in_effect is False or row.problem else ""
            first, *others = wrap(name, unparted(one_line("; ".join(said_of(row)), 500)), width)
            lines.append([(name, "strong"), (first[len(name) :], style)])
            lines += [[(line, style)] for line in others]
        lines += [[(line, "dim")] for said in comparison.remarks for line in wrap("", one_line(said, 600), width)]
        return lines
