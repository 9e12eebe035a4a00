"""Where a block's time goes: a bar a method, its segments the phases, and a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Final

from rich.cells import cell_len

from sessions.frames.block_phases import TIMED, Segment
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.theme import method_style
from tui.words import figures
from tui.words.cells import fit
from tui.words.terminal_text import plain

TITLE: Final = "where a block's time goes"
NAME_MOST: Final = 24
LEAST_BAR: Final = 12
LOOKS: Final = {  # of each segment: its cells, told apart without colours too, and their style
    "interpreter": ("·", "dim"),
    "imports": ("░", "dim"),
    "loading": ("▒", "bar"),
    "compiling": ("▓", "bad"),
    "warm-up": ("▒", "warning"),
    TIMED: ("█", "good"),
    "evidence": ("▓", ""),
    "greedy pass": ("░", ""),
    "fidelity": ("▫", ""),
    "close": ("·", "dim"),
}

Bars = Mapping[str, Sequence[tuple[Segment, float]]]


class TimeBars(DrawnLines):
    """All bars have one scale, so that they tell a slow method from a slow start."""

    DEFAULT_CSS = """
    TimeBars { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._bars: Bars = {}
        self._places: Mapping[str, int] = {}

    def show_bars(self, bars: Bars, places: Mapping[str, int]) -> None:
        """By method, the segments of a block with their seconds; `places` are those of the session's methods."""
        self._bars, self._places = bars, places
        self.display = bool(bars)
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        if not self._bars:
            return []
        names = [plain(name) for name in self._bars]
        name_width = min(NAME_MOST, max(map(cell_len, names)), width // 3)
        said = [_said(segments) for segments in self._bars.values()]
        room = width - name_width - 1 - max(map(cell_len, said)) - 2
        if room < LEAST_BAR:
            said, room = [""] * len(said), width - name_width - 1
        longest = max(sum(seconds for _, seconds in segments) for segments in self._bars.values())
        lines: list[list[Piece]] = [[(TITLE, "title")]]
        for method, name, segments, words in zip(self._bars, names, self._bars.values(), said, strict=True):
            bar = [
                (LOOKS[segment.name][0] * count, LOOKS[segment.name][1])
                for (segment, _), count in zip(segments, _cells(segments, room, longest), strict=True)
                if count
            ]
            blank = " " * (room - sum(len(text) for text, _ in bar))
            style = method_style(self._places[method]) if method in self._places else ""
            lines.append([(fit(name, name_width) + " ", style), *bar, (f"{blank}  {words}" if words else blank, "dim")])
        return [*lines, *self._legend(width)]

    def _legend(self, width: int) -> list[list[Piece]]:
        shown = {segment.name for segments in self._bars.values() for segment, _ in segments}
        lines: list[list[Piece]] = [[]]
        used = 0
        for name, (cell, style) in LOOKS.items():
            if name not in shown:
                continue
            taken = len(name) + 4
            if used and used + taken > width:
                lines.append([])
                used = 0
            lines[-1] += [(cell * 2, style), (f" {name} ", "dim")]
            used += taken
        return lines


def _said(segments: Sequence[tuple[Segment, float]]) -> str:
    whole = sum(seconds for _, seconds in segments)
    timed = sum(seconds for segment, seconds in segments if segment.name == TIMED)
    return f"{figures.share(timed / whole if whole else None)} of {figures.duration(whole)} timed"


def _cells(segments: Sequence[tuple[Segment, float]], room: int, longest: float) -> list[int]:
    """How many cells each segment takes; rounded at their edges, so that the bar is as long as it should be."""
    edges = [round(at / longest * room) for at in accumulate((seconds for _, seconds in segments), initial=0.0)]
    return [end - begin for begin, end in pairwise(edges)]
