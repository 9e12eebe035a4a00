"""The pictures of a load: throughput, latencies and the trade between them, a curve for each method."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from textual.containers import Container
from textual.geometry import Size

from sessions.verdict.load_curves import PICTURES, LoadCurve, LoadCurves, LoadPicture
from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.legend import legend
from tui.widgets.theme import method_style, sign_of
from tui.words import figures
from tui.words.cells import fit

if TYPE_CHECKING:
    from sessions.verdict.statistics import Interval

LABEL_WIDTH: Final = 8
HEIGHT: Final = 9
TEXTS: Final[Mapping[str, Callable[[float], str]]] = {"rate": figures.rate, "duration": figures.duration}
AXES: Final[Mapping[str, str]] = {
    "batch": "sequences in a batch", "concurrency": "requests in flight", "requests/s": "requests/s",
}  # fmt: skip
PER_USER: Final = "tokens/s per user"


class LoadPlot(DrawnLines):
    """One picture over one axis, its points with their intervals."""

    DEFAULT_CSS = """
    LoadPlot { height: auto; padding: 0 1; }
    """

    def __init__(self, picture: LoadPicture, curves: LoadCurves, names: Sequence[str], styles: Sequence[str]) -> None:
        super().__init__()
        self.picture, self.curves = picture, curves
        self._names, self._styles = names, styles

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport
        return len(self.draw(width)) if width else 0

    def draw(self, width: int) -> list[list[Piece]]:
        drawn = [
            (name, style, points)
            for curve, name, style in zip(self.curves.curves, self._names, self._styles, strict=True)
            if (points := self._points(curve))
        ]
        lines = legend(self.picture.title, [(name, style) for name, style, _ in drawn], width)
        if not drawn:
            return [*lines, [("Not known at any point.", "dim")]]
        columns = max(10, width - LABEL_WIDTH - 1)
        across = _range([edge for _, _, points in drawn for x, _ in points for edge in (x.low, x.high)])
        up = _range([0.0, *(edge for _, _, points in drawn for _, y in points for edge in (y.low, y.high))])
        canvas = Canvas(columns, HEIGHT, across, up)
        for _, style, points in drawn:
            canvas.draw([x.estimate for x, _ in points], [y.estimate for _, y in points], style)
            for x, y in points:
                canvas.draw([x.estimate, x.estimate], [y.low, y.high], style)
                canvas.draw([x.low, x.high], [y.estimate, y.estimate], style)
        for _, style, points in drawn:  # last, or another curve takes the place of a mark's colour
            for x, y in points:
                canvas.mark(x.estimate, y.estimate, sign_of(style), style)
        text = TEXTS[self.picture.unit]
        for row in range(HEIGHT):
            value = up[1] - (up[1] - up[0]) * row / (HEIGHT - 1)  # the edges in the first and the last row
            label = f"{text(value) if value else 0} " if row % 2 == 0 else ""
            lines.append([(fit(label, LABEL_WIDTH, right=True), "dim"), ("│", "dim"), *canvas.line(row)])
        for line in self._axis(columns, across):
            lines.append([(" " * (LABEL_WIDTH + 1) + line, "dim")])
        return [*lines, []]

    def _points(self, curve: LoadCurve) -> list[tuple[Interval, Interval]]:
        """Across and up."""
        from sessions.verdict.statistics import Interval

        found = []
        for point, up in curve.values(self.picture.up):
            if self.picture.across is None:
                place = math.log2(point.load)
                found.append((Interval(place, place, place), up))
            elif (across := self.picture.across(point.row)) is not None:
                found.append((across, up))
        return found

    def _axis(self, columns: int, across: tuple[float, float]) -> list[str]:
        """The loads that fit below their places, or both ends of the range; then what it is a number of."""
        if self.picture.across is not None:
            left, right = figures.rate(across[0]), figures.rate(across[1])
            return [left + right.rjust(columns - len(left)), PER_USER.rjust(columns)]
        cells = [" "] * columns
        for load in self.curves.loads:
            place = round((math.log2(load) - across[0]) / (across[1] - across[0]) * (columns - 1))
            text = f"{load:g}"
            first = min(max(0, place - len(text) // 2), columns - len(text))
            if all(cell == " " for cell in cells[max(0, first - 1) : first + len(text) + 1]):
                cells[first : first + len(text)] = text
        return ["".join(cells).rstrip(), AXES[self.curves.axis].rjust(columns)]


class LoadPlots(Container):
    """All pictures of a comparison's curves; nothing where it has none."""

    async def show_curves(
        self, found: Sequence[LoadCurves], name: Callable[[LoadCurve], str], place: Callable[[LoadCurve], int]
    ) -> None:
        """Draw these, each curve by its name and in the style of its place."""
        self.display = bool(found)
        async with self.batch():
            await self.remove_children()
            await self.mount_all(
                LoadPlot(
                    picture,
                    curves,
                    [name(curve) for curve in curves.curves],
                    [method_style(place(curve)) for curve in curves.curves],
                )
                for curves in found
                for picture in PICTURES
            )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """A little beyond the lowest and the highest, so that no mark is at the edge; from 0 where that is the lowest."""
    low, high = min(values), max(values)
    pad = 0.04 * (high - low) if high > low else 0.5
    return low - (0 if low == 0 else pad), high + pad
