"""Curves and points in braille, two by four dots a cell, with a labelled axis on two sides.

Drawn only when there is other data or another size; textual-plot would do the same for 95 ms a drawing and one more
dependency, and its canvas repaints as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.geometry import Size

from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.legend import legend
from tui.widgets.theme import is_method, sign_of
from tui.words.cells import cut, fit

LABEL_WIDTH = 9
SIGNS_MOST = 4  # of a curve


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one curve. x and y are of one length, in the units of the axes."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    style: str


class Plot(DrawnLines):
    """One plot in the height its style gives, with a title that says where an axis begins that is cut."""

    DEFAULT_CSS = """
    Plot { height: 10; padding: 0 1; }
    """

    def __init__(
        self,
        title: str,
        x_label: str,
        y_text: Callable[[float], str],
        *,
        from_zero: bool = True,
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self._title, self._x_label, self._y_text = title, x_label, y_text
        self._from_zero = from_zero
        self._series: Sequence[Series] = ()
        self._x_range: tuple[float, float] | None = None
        self._reason = ""

    def show_series(
        self,
        series: Sequence[Series],
        *,
        title: str | None = None,
        x_range: tuple[float, float] | None = None,
        reason: str = "",
    ) -> None:
        """Plot these; `x_range` makes several plots share an axis, `reason` is said where there is nothing to plot."""
        self._series = [one for one in series if len(one.x)]
        self._title = self._title if title is None else title
        self._x_range, self._reason = x_range, reason
        self.show()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport, width
        return 10

    def draw(self, width: int) -> list[list[Piece]]:
        height = max(4, self.content_size.height)
        if not self._series:
            return [[(cut(self._title, width), "title")], [(cut(self._reason or "Nothing to plot yet.", width), "dim")]]
        low_y, high_y = _range([one.y for one in self._series], self._from_zero)
        title = f"{self._title}, from {self._y_text(low_y)}" if low_y > 0 else self._title
        lines = legend(title, [(one.name, one.style) for one in self._series], width)
        rows, columns = max(3, height - len(lines) - 1), max(4, width - LABEL_WIDTH - 1)
        low_x, high_x = self._x_range or _range([one.x for one in self._series], False)
        canvas = Canvas(columns, rows, (low_x, high_x), (low_y, high_y))
        for one in self._series:
            canvas.draw(one.x, one.y, one.style)
        for place, one in enumerate(self._series):
            if is_method(one.style):  # without colours a curve is known by its sign
                each = max(1, len(one.x) // SIGNS_MOST)
                for at in range(place % each, len(one.x), each):
                    canvas.mark(one.x[at], one.y[at], sign_of(one.style), one.style)
        for row in range(rows):
            label = ""
            if row == 0:
                label = self._y_text(high_y)
            elif row == rows - 1:
                label = self._y_text(low_y)
            elif row == rows // 2:
                label = self._y_text(high_y - (high_y - low_y) * (row + 0.5) / rows)
            lines.append([(fit(label, LABEL_WIDTH, right=True), "dim"), ("│", "dim"), *canvas.line(row)])
        left, right = f"{low_x:.4g}", f"{high_x:.4g} {self._x_label}"
        gap = " " * max(1, columns - len(left) - len(right))
        lines.append([(" " * (LABEL_WIDTH + 1) + left + gap + right, "dim")])
        return lines


def _range(values: Sequence[Sequence[float]], from_zero: bool) -> tuple[float, float]:
    """Lowest and highest of all, a little apart where they are one."""
    low, high = min(map(min, values)), max(map(max, values))
    if from_zero:
        low = min(0.0, low)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
