"""A session's time line: its requests, blocks and readings on one axis, of which any part can be looked at."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.legend import legend
from tui.widgets.strips import block_strip, reading_text, top_of
from tui.widgets.theme import method_style, sign_of
from tui.words import figures
from tui.words.cells import cut, fit
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from sessions.frames.block_spans import BlockSpan
    from sessions.frames.tracks import TrackKind
    from sessions.watch.laps import Lap
    from tui.read.comparison_series import Curve

LABEL_WIDTH: Final = 9
ROWS: Final = ((50, 12, 6), (34, 8, 4), (0, 4, 3))  # from a height of the screen on: of the requests, of a reading
SIGNS_APART: Final = 8  # cells, at least, of one method
TITLE: Final = "tokens/s of each request"
NOTHING: Final = "No timed requests in this session."
ZOOM: Final = 2.0
STEP: Final = 0.25  # of what is in view
LEAST_S: Final = 0.2
KEYS: Final = ", . move  + - zoom  0 all"


@dataclass(frozen=True, slots=True)
class TimeLineData:
    """What lies on the axis, in seconds of the session; `requests` are those that count, by method."""

    requests: Mapping[str, Sequence[Lap]] = field(default_factory=dict)
    blocks: Sequence[BlockSpan] = ()
    curves: Mapping[TrackKind, Curve] = field(default_factory=dict)

    @property
    def end_s(self) -> float:
        """Where the last of it ends; 0 where there is nothing."""
        ends = [span.end_s for span in self.blocks if span.end_s is not None]
        ends += [laps[-1].end_s for laps in self.requests.values() if laps]
        ends += [curve.seconds[-1] for curve in self.curves.values() if curve.seconds]
        return max(ends, default=0.0)


class SessionTimeLine(DrawnLines):
    """All of it at first; `move` and `zoom` change what is in view, and never beyond the session."""

    DEFAULT_CSS = """
    SessionTimeLine { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._data = TimeLineData()
        self._places: Mapping[str, int] = {}
        self.window = (0.0, 1.0)

    def show_session(self, data: TimeLineData, places: Mapping[str, int]) -> None:
        """Draw this; `places` are those of the session's methods."""
        self._data, self._places = data, places
        self.window = (0.0, max(data.end_s, LEAST_S))
        self.refresh(layout=True)
        self.show()

    def move(self, steps: int) -> None:
        """Look at what is earlier or later, by quarters of what is in view."""
        low, high = self.window
        self._look(low + steps * STEP * (high - low), high - low)

    def zoom(self, steps: int) -> None:
        """Look at half as much about the same middle, or at twice as much."""
        low, high = self.window
        wide = max(LEAST_S, (high - low) * ZOOM**-steps)
        self._look((low + high - wide) / 2, wide)

    def whole(self) -> None:
        """Look at all of it."""
        self._look(0.0, self._data.end_s)

    def _look(self, low: float, wide: float) -> None:
        wide = min(wide, max(self._data.end_s, LEAST_S))
        low = min(max(0.0, low), max(self._data.end_s, LEAST_S) - wide)
        self.window = (low, low + wide)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        data, columns = self._data, max(8, width - LABEL_WIDTH - 1)
        if not data.requests and not data.curves:
            return [[(cut(TITLE, width), "title")], [(cut(NOTHING, width), "dim")]]
        lines = self._requests(width, columns)
        lanes = sorted({span.lane for span in data.blocks})
        for lane in lanes:
            own = [span for span in data.blocks if span.lane == lane]
            name = f"lane {lane + 1}" if len(lanes) > 1 else "blocks"
            strip = block_strip(own, self._places, self.window, columns)
            lines.append([(fit(name, LABEL_WIDTH, right=True), "dim"), ("│", "dim"), *strip])
        axis = self._axis(columns)
        lines.append(axis)
        for kind, curve in data.curves.items():
            lines += self._reading(kind, curve, width, columns)
        return [*lines, axis]

    @property
    def _rows(self) -> tuple[int, int]:
        """Lines of the requests, and of a reading."""
        return next((rates, rows) for least, rates, rows in ROWS if self.screen.size.height >= least)

    def _requests(self, width: int, columns: int) -> list[list[Piece]]:
        data = self._data
        if not data.requests:
            return [[(cut(TITLE, width), "title")], [(cut(NOTHING, width), "dim")]]
        styles = {name: method_style(self._places.get(name, 0)) for name in data.requests}
        lines = legend(TITLE, [(one_line(name, 40), style) for name, style in styles.items()], width)
        rows = self._rows[0]
        top = max((lap.tok_s for laps in data.requests.values() for lap in laps), default=0.0) or 1.0
        canvas = Canvas(columns, rows, self.window, (0.0, top))
        low, high = self.window
        for name, laps in data.requests.items():
            for lap in laps:
                if lap.end_s >= low and lap.start_s <= high:
                    canvas.draw([max(low, lap.start_s), min(high, lap.end_s)], [lap.tok_s, lap.tok_s], styles[name])
        apart = SIGNS_APART * (high - low) / columns
        for name, laps in data.requests.items():  # last, or another method's dots take the place of a sign's colour
            marked = -apart
            for lap in laps:
                middle = (lap.start_s + lap.end_s) / 2
                if low <= middle <= high and middle - marked >= apart:
                    canvas.mark(middle, lap.tok_s, sign_of(styles[name]), styles[name])
                    marked = middle
        return [*lines, *_labelled(canvas, rows, figures.rate(top))]

    def _reading(self, kind: TrackKind, curve: Curve, width: int, columns: int) -> list[list[Piece]]:
        top = top_of(kind, curve.values) or 1.0
        rows = self._rows[1]
        canvas = Canvas(columns, rows, self.window, (0.0, top))
        canvas.draw(*thinned(curve, self.window, 2 * columns), "bar")
        return [[(cut(kind.title, width), "title")], *_labelled(canvas, rows, reading_text(kind)(top))]

    def _axis(self, columns: int) -> list[Piece]:
        low, high = self.window
        end = self._data.end_s
        left, right = f"{low:.4g}", f"{high:.4g} s"
        said = KEYS if high - low >= end else f"of {figures.duration(end)}  {KEYS}"
        room = columns - len(left) - len(right)
        middle = said.center(room) if room >= len(said) + 2 else " " * max(1, room)
        return [(" " * (LABEL_WIDTH + 1) + left + middle + right, "dim")]


def thinned(curve: Curve, window: tuple[float, float], places: int) -> tuple[list[float], list[float]]:
    """The points within the window and the next on either side; of many in one place its lowest and highest."""
    first = max(0, bisect_left(curve.seconds, window[0]) - 1)
    last = bisect_right(curve.seconds, window[1]) + 1
    seconds, values = curve.seconds[first:last], curve.values[first:last]
    if len(seconds) <= 2 * places:
        return seconds, values
    each = (window[1] - window[0]) / places
    xs: list[float] = []
    ys: list[float] = []
    at: int | None = None
    for second, value in zip(seconds, values, strict=True):
        place = int((second - window[0]) // each)
        if place != at:
            at = place
            xs += [second, second]
            ys += [value, value]
        else:
            ys[-2:] = [min(ys[-2], value), max(ys[-1], value)]
    return xs, ys


def _labelled(canvas: Canvas, rows: int, top: str) -> list[list[Piece]]:
    labels = [top, *[""] * (rows - 2), "0"]
    return [
        [(fit(label, LABEL_WIDTH, right=True), "dim"), ("│", "dim"), *canvas.line(row)]
        for row, label in enumerate(labels)
    ]
