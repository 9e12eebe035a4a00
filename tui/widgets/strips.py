"""One-line strips over a time axis: which block ran when, and a reading as a row of bars."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tui.widgets.drawn_lines import Piece
from tui.widgets.theme import method_style, sign_of
from tui.words import figures

if TYPE_CHECKING:
    from sessions.frames.block_spans import BlockSpan
    from sessions.frames.tracks import Track, TrackKind

BARS: Final = "▁▂▃▄▅▆▇"  # none to the top of its line: strips below one another would be one block
STEPS_OF_TOP: Final = 8  # in which an axis grows to the double
TIMED: Final = "timed"
CELLS: Final = {"": "·", "import": "·", "load": "┄", "warmup": "─", TIMED: "━"}
AFTER: Final = "╌"


def block_strip(
    blocks: Sequence[BlockSpan], places: Mapping[str, int], window: tuple[float, float], columns: int
) -> list[Piece]:
    """What ran at each column's moment: a cell for the phase in the method's style, the first with its sign."""
    cells: list[tuple[str, str]] = [(" ", "")] * columns
    for span in blocks:
        style = method_style(places[span.method]) if span.method in places else "dim"
        end = math.inf if span.end_s is None else span.end_s
        first, last = (_column(second, window, columns) for second in (span.start_s, min(end, window[1])))
        if last < 0 or first >= columns:
            continue
        edges = [*span.phases, ("", end)] if span.phases else [(TIMED, span.start_s), ("", end)]
        for (phase, start), (_, until) in pairwise(edges):
            begin, stop = (_column(second, window, columns) for second in (start, min(until, window[1])))
            for place in range(max(0, begin), min(columns, max(stop, begin + 1))):
                cells[place] = (CELLS.get(phase, AFTER), style)
        if last - first >= 2 and first >= 0:
            cells[first] = (sign_of(style), style)
    return joined(cells)


def reading_strip(track: Track, window: tuple[float, float], columns: int, top: float) -> list[Piece]:
    """A bar a column from zero to `top`: the mean of what was read in that time; blank where nothing was."""
    each = (window[1] - window[0]) / columns
    cells: list[tuple[str, str]] = []
    for column in range(columns):
        first = int((window[0] + column * each) / track.each_s)
        last = max(first + 1, math.ceil((window[0] + (column + 1) * each) / track.each_s))
        known = [value for value in track.values[first:last] if value is not None]
        if known and top > 0:
            level = sum(known) / len(known) / top
            cells.append((BARS[max(0, min(len(BARS) - 1, int(level * len(BARS))))], "bar"))
        else:
            cells.append((" ", ""))
    return joined(cells)


def joined(cells: Sequence[tuple[str, str]]) -> list[Piece]:
    """Cells as pieces of one style each."""
    pieces: list[Piece] = []
    for text, style in cells:
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + text, style)
        else:
            pieces.append((text, style))
    return pieces


def end_of_axis(highest: float) -> float:
    """A round value from `highest` on: an axis that grew with every frame would repaint the whole plot."""
    step = 2.0 ** math.floor(math.log2(highest)) / STEPS_OF_TOP if highest > 0 else 1.0
    return math.ceil(highest / step) * step


def top_of(kind: TrackKind, values: Sequence[float | None]) -> float:
    """Where the axis of a reading ends: 100 for a percentage, else a round value above the highest."""
    if kind.title.endswith("%"):
        return 100.0
    return end_of_axis(max((value for value in values if value is not None), default=0.0))


def reading_text(kind: TrackKind) -> Callable[[float], str]:
    """How a value of it is said, with its unit where its title has none."""
    if kind.title.endswith("%"):
        return lambda value: f"{value:.0f} %"
    if kind.metric.endswith("_bytes"):
        return figures.size
    unit = kind.title.rpartition(", ")[2]
    return lambda value: f"{value:.0f} {unit}"


def _column(second: float, window: tuple[float, float], columns: int) -> int:
    if second >= window[1]:
        return columns
    return math.floor((second - window[0]) / (window[1] - window[0]) * columns)
