"""One method's bar in the race: its mean as a line from zero, its 95 % interval as whiskers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.widgets.drawn_lines import Piece
from tui.widgets.theme import sign_of
from tui.words import figures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sessions.verdict.statistics import Interval
    from sessions.watch.live import MethodLive

MOST_WHISKER = 1.25  # the scale's end over the highest mean: an interval of three blocks may be many times as wide


def scale_of(rows: Iterable[MethodLive]) -> float:
    """Tokens/s at the right end of all bars; 0 while nothing is known."""
    means, highs = [], []
    for row in rows:
        if row.tok_s_mean is not None:
            means.append(row.tok_s_mean)
            highs.append(row.tok_s_interval.high if row.tok_s_interval else row.tok_s_mean)
    return min(max(highs), MOST_WHISKER * max(means)) if means else 0.0


def race_bar(mean: float | None, interval: Interval | None, top: float, width: int, style: str) -> list[Piece]:
    """The bar in `width` cells, of which the last is `top`; a whisker beyond it is cut off there, without an end."""
    if mean is None or top <= 0 or width < 2:
        return [(" " * max(0, width), "")]

    def cell(value: float) -> int:
        return max(0, min(width - 1, round(value / top * (width - 1))))

    at = cell(mean)
    low, high = (cell(interval.low), cell(interval.high)) if interval else (at, at)
    end = "┤" if interval is None or interval.high <= top * (1 + 1e-9) else "─"
    before = "├" + "─" * (at - low - 1) if low < at else ""
    after = "─" * (high - at - 1) + end if high > at else ""
    drawn = "━" * low + before + sign_of(style) + after
    return [(drawn, style), (" " * (width - len(drawn)), "")]


def race_axis(top: float, width: int) -> str:
    """What stands above the bars: both ends of their scale."""
    right = f"{figures.rate(top)} tok/s" if top > 0 else "tok/s"
    return "0" + right.rjust(width - 1) if width > len(right) + 1 else right[:width].rjust(width)
