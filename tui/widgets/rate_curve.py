"""The curve of tokens per second over the last while."""

from __future__ import annotations

from collections.abc import Sequence

from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.words import figures

LABEL_WIDTH = 7


class RateCurve(DrawnLines):
    """Block characters in the height the style gives, with the value now and the highest shown beside them."""

    DEFAULT_CSS = """
    RateCurve { height: 3; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._values: Sequence[float] = ()
        self._now: float | None = None

    def show_curve(self, values: Sequence[float], now: float | None) -> None:
        """Values oldest first, tokens/s; `now` is None while nothing is generated."""
        self._values, self._now = values, now
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        height = max(1, self.content_size.height)
        room = max(1, width - LABEL_WIDTH - 1)
        labels = [""] * height
        labels[0] = figures.rate(max(self._values[-room:])) if self._values else ""
        labels[-1] = "tok/s"
        if height == 1:
            labels[0] = f"{figures.rate(self._now)}/s"
        elif height > 2:
            labels[height // 2] = figures.rate(self._now)
        rows = figures.curve(self._values, room, height)
        return [
            [(label.rjust(LABEL_WIDTH), "dim" if label == "tok/s" else "strong"), (" ", ""), (row, "accent")]
            for label, row in zip(labels, rows, strict=True)
        ]
