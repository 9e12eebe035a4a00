"""A comparison's answer: the sentences, then a bar with its interval for each method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from sessions.verdict.load_row import LoadRow
from sessions.verdict.statistics import Interval
from tui.widgets.comparison_lines import ComparisonLines
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_text import wrap
from tui.widgets.race_bar import MOST_WHISKER, race_axis, race_bar
from tui.widgets.theme import method_style
from tui.words import figures
from tui.words.answer import answer
from tui.words.cells import cut, fit, unparted
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.verdict.comparison_row import ComparisonRow

NAME_MOST: Final = 30
RATE, RATIO = "tok/s ±95 %", "× ref (95 %)"
RATE_WIDTH, RATIO_WIDTH = 14, 17
BAR_MOST, VERDICT_LEAST = 60, 24


class AnswerLines(ComparisonLines):
    """Blank without a comparison. Under load the sentences describe the point that is judged, and no bars are drawn."""

    def draw(self, width: int) -> list[list[Piece]]:
        comparison = self.comparison
        if comparison is None or not comparison.rows:
            return []
        lines: list[list[Piece]] = []
        for number, (sentence, style) in enumerate(answer(comparison)):
            shown = style or ("strong" if number == 0 else "")
            lines += [[(line, shown)] for line in wrap("", unparted(sentence), width)]
        rows = [] if any(isinstance(row, LoadRow) for row in comparison.rows) else comparison.rows
        known = any(row.tok_s_mean is not None for row in rows)
        return [*lines, [], *_bars(rows, width)] if known else lines


def _bars(rows: Sequence[ComparisonRow], width: int) -> list[list[Piece]]:
    """A line for each row: its bar, tokens/s, ratio and, where there is room, the verdict."""
    several = len({row.session for row in rows}) > 1
    names = [one_line(f"{row.method} {row.session[-6:]}" if several else row.method, 60) for row in rows]
    name = min(NAME_MOST, max(map(cell_len, names)), max(8, width // 4))
    ratio = max(RATIO_WIDTH, *(cell_len(_ratio(row)) for row in rows))
    fixed = name + 2 + RATE_WIDTH + 2 + ratio
    bar = max(8, min(BAR_MOST, (width - fixed - VERDICT_LEAST - 4) if width >= 120 else width - fixed - 2))
    left = width - fixed - 2 - bar - 2
    intervals = [_interval(row) for row in rows]
    top = _top(intervals)
    head = f"{fit('', name)}  {race_axis(top, bar)}"
    lines: list[list[Piece]] = [[(f"{head}  {RATE.rjust(RATE_WIDTH)}  {RATIO.rjust(ratio)}", "dim")]]
    for place, (row, said, interval) in enumerate(zip(rows, names, intervals, strict=True)):
        style = method_style(place)
        whole = interval if interval is not None and row.tok_s_half_width is not None else None
        line: list[Piece] = [(fit(said, name) + "  ", style)]
        line += race_bar(row.tok_s_mean, whole, top, bar, style)
        rate = figures.rate_with_half_width(row.tok_s_mean, row.tok_s_half_width)
        line.append(("  " + rate.rjust(RATE_WIDTH), "strong"))
        line.append(("  " + _ratio(row).rjust(ratio), ""))
        if left >= VERDICT_LEAST or row.in_effect is False or row.problem:
            words, tone = _verdict(row)
            line.append(("  " + cut(words, left), tone))
        lines.append(line)
    return lines


def _interval(row: ComparisonRow) -> Interval | None:
    if row.tok_s_mean is None:
        return None
    low, high = row.tok_s_low, row.tok_s_high
    return Interval(row.tok_s_mean, row.tok_s_mean if low is None else low, row.tok_s_mean if high is None else high)


def _top(intervals: Sequence[Interval | None]) -> float:
    known = [each for each in intervals if each is not None]
    highest = max((each.estimate for each in known), default=0.0)
    return min(max((each.high for each in known), default=0.0), MOST_WHISKER * highest)


def _ratio(row: ComparisonRow) -> str:
    if row.ratio_interval is None:
        return figures.ratio(row.ratio)
    low, high = row.ratio_interval
    return f"{figures.ratio(row.ratio)} ({figures.ratio(low)}–{figures.ratio(high)})"


def _verdict(row: ComparisonRow) -> tuple[str, str]:
    if row.problem:
        return one_line(row.problem, 200), "bad"
    if row.in_effect is False:
        return f"NOT in effect: {one_line(row.in_effect_reason, 200)}", "bad"
    return one_line(row.verdict, 200), ""
