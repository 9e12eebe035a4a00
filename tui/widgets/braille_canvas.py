"""A canvas of braille cells, two by four dots each."""

from __future__ import annotations

from collections.abc import Sequence

from tui.widgets.drawn_lines import Piece

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column within a cell
SHADE = "\N{LIGHT SHADE}"


class Canvas:
    """Braille cells, each in the style of the series that drew in it last."""

    def __init__(self, columns: int, rows: int, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self._columns, self._rows = columns, rows
        self._x_range, self._y_range = x_range, y_range
        self._bits = [[0] * columns for _ in range(rows)]
        self._styles = [[""] * columns for _ in range(rows)]
        self._signs = [[""] * columns for _ in range(rows)]
        self._shaded = [1, 0]  # the first and the last column

    def draw(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        """Points, with lines between them."""
        before: tuple[int, int] | None = None
        for x, y in zip(xs, ys, strict=True):
            point = self._point(x, y)
            if before is not None:
                self._line(before, point, style)
            else:
                self._set(*point, style)
            before = point

    def mark(self, x: float, y: float, sign: str, style: str) -> None:
        """A whole cell that shows this sign, whatever is drawn there."""
        across, down = self._point(x, y)
        column, row = across // 2, down // 4
        if 0 <= column < self._columns and 0 <= row < self._rows:
            self._signs[row][column] = sign
            self._styles[row][column] = style

    def shade(self, low: float, high: float) -> None:
        """The empty cells between two values of x."""
        for value, place in ((low, 0), (high, 1)):
            column = self._point(value, self._y_range[0])[0] // 2
            self._shaded[place] = max(0, min(self._columns - 1, column))

    def _point(self, x: float, y: float) -> tuple[int, int]:
        (low_x, high_x), (low_y, high_y) = self._x_range, self._y_range
        across = (x - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        up = (y - low_y) / (high_y - low_y) if high_y > low_y else 0.5
        return round(across * (self._columns * 2 - 1)), round((1 - up) * (self._rows * 4 - 1))

    def _line(self, start: tuple[int, int], end: tuple[int, int], style: str) -> None:
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            self._set(
                round(start[0] + (end[0] - start[0]) * step / steps),
                round(start[1] + (end[1] - start[1]) * step / steps),
                style,
            )

    def _set(self, x: int, y: int, style: str) -> None:
        column, row = x // 2, y // 4
        if 0 <= column < self._columns and 0 <= row < self._rows:
            self._bits[row][column] |= DOTS[y % 4][x % 2]
            self._styles[row][column] = style

    def line(self, row: int) -> list[Piece]:
        """A row as pieces of one style each."""
        pieces: list[Piece] = []
        for column in range(self._columns):
            character, style = self._cell(row, column)
            if pieces and pieces[-1][1] == style:
                pieces[-1] = (pieces[-1][0] + character, style)
            else:
                pieces.append((character, style))
        return pieces

    def _cell(self, row: int, column: int) -> Piece:
        style = self._styles[row][column]
        if sign := self._signs[row][column]:
            return sign, style
        if bits := self._bits[row][column]:
            return chr(0x2800 + bits), style
        return (SHADE, "dim") if self._shaded[0] <= column <= self._shaded[1] else (" ", "")
