"""How a session ended: its verdicts, one sentence per method, as on the command line."""

from __future__ import annotations

from sessions.verdict.load_row import LoadRow
from tui.widgets.comparison_lines import ComparisonLines
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_text import wrap
from tui.words.cells import unparted
from tui.words.load_lines import load_sentences
from tui.words.terminal_text import one_line
from tui.words.verdict_text import said_of


class Outcome(ComparisonLines):
    """Blank without a comparison."""

    def draw(self, width: int) -> list[list[Piece]]:
        comparison = self.comparison
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
