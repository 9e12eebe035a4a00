"""Speed against loss: each method where it is, with both intervals, and the fidelity floor as a band.

The scale of the loss is linear about 0 and logarithmic beyond the floor: a broken method loses a thousand times what
rounding does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from textual.geometry import Size

from sessions.verdict.fidelity_words import nats
from sessions.verdict.speed_and_loss import TICKS, USUAL_FLOOR, TradeOff, TradeOffs
from tui.widgets.braille_canvas import SHADE, Canvas
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.legend import legend
from tui.widgets.live_text import wrap
from tui.widgets.race_bar import MOST_WHISKER
from tui.widgets.theme import sign_of
from tui.words.cells import fit

LABEL_WIDTH: Final = 7
HEIGHT: Final = 12
TITLE: Final = "speed (×) against loss in {} (nats a token)"


class SpeedAndLoss(DrawnLines):
    """The picture; nothing where no method has both."""

    DEFAULT_CSS = """
    SpeedAndLoss { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._found: TradeOffs | None = None
        self._names: Sequence[str] = ()
        self._styles: Sequence[str] = ()

    def show_trade_offs(self, found: TradeOffs | None, names: Sequence[str] = (), styles: Sequence[str] = ()) -> None:
        """Draw these, each by the name and in the style at its place."""
        self._found, self._names, self._styles = found, names, styles
        self.display = found is not None
        self.refresh(layout=True)
        self.show()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        del container, viewport
        return len(self.draw(width)) if width else 0

    def draw(self, width: int) -> list[list[Piece]]:
        found = self._found
        if found is None:
            return []
        lines = legend(TITLE.format(found.where), zip(self._names, self._styles, strict=True), width)
        columns = max(10, width - LABEL_WIDTH - 1)
        scale = found.floor or USUAL_FLOOR
        across = _padded([_scaled(value, scale) for value in found.losses])
        speeds = _speeds(found.drawn)
        canvas = Canvas(columns, HEIGHT, across, speeds)
        if found.floor is not None:
            canvas.shade(_scaled(-found.floor, scale), _scaled(found.floor, scale))
        canvas.draw([0.0, 0.0], speeds, "dim")
        drawn = list(zip(found.drawn, self._styles, strict=True))
        for one, style in drawn:
            _cross(canvas, one, scale, speeds, style)
        for one, style in drawn:  # last, or an interval of another method takes the place of a mark's colour
            canvas.mark(_scaled(one.loss.estimate, scale), one.speed.estimate, sign_of(style), style)
        for row in range(HEIGHT):
            value = speeds[1] - (speeds[1] - speeds[0]) * (row + 0.5) / HEIGHT
            label = f"{value:.{2 if value < 100 else 0}f}× " if row % 3 == 0 or row == HEIGHT - 1 else ""
            lines.append([(fit(label, LABEL_WIDTH, right=True), "dim"), ("│", "dim"), *canvas.line(row)])
        lines.append([(" " * (LABEL_WIDTH + 1) + _axis(columns, across, scale), "dim")])
        said = [f"{SHADE} the floor of {nats(found.floor)}: losses within it are not told apart"] if found.floor else []
        said += [found.remark] if found.remark else []
        return lines + [[(line, "dim")] for text in said for line in wrap("", text, width)]


def _scaled(loss: float, scale: float) -> float:
    return math.copysign(math.log1p(abs(loss) / scale), loss)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = 0.06 * (high - low) if high > low else 0.5
    return low - pad, high + pad


def _speeds(drawn: Sequence[TradeOff]) -> tuple[float, float]:
    """From 0 at the least; an interval that would leave the others no room is cut off."""
    low, high = _padded([value for one in drawn for value in (one.speed.low, one.speed.high)])
    return max(0.0, low), min(high, MOST_WHISKER * max(one.speed.estimate for one in drawn))


def _cross(canvas: Canvas, one: TradeOff, scale: float, speeds: tuple[float, float], style: str) -> None:
    """Both intervals as lines."""
    loss, speed = _scaled(one.loss.estimate, scale), one.speed.estimate
    canvas.draw([_scaled(one.loss.low, scale), _scaled(one.loss.high, scale)], [speed, speed], style)
    canvas.draw([loss, loss], [max(one.speed.low, speeds[0]), min(one.speed.high, speeds[1])], style)


def _axis(columns: int, across: tuple[float, float], scale: float) -> str:
    """The labels that fit, 0 first, each centred below its place."""
    cells = [" "] * columns
    for value in (0.0, *TICKS):
        place = round((_scaled(value, scale) - across[0]) / (across[1] - across[0]) * (columns - 1))
        text = "0" if value == 0 else f"{value:g}".replace("-", "\N{MINUS SIGN}")
        first = place - len(text) // 2
        if first < 0 or first + len(text) > columns:
            continue
        around = cells[max(0, first - 2) : first + len(text) + 2]
        if all(cell == " " for cell in around):
            cells[first : first + len(text)] = text
    return "".join(cells).rstrip()
