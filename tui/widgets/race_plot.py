"""All methods' tokens/s over the session's time, the running one bright."""

from __future__ import annotations

import math
from typing import Final

from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_lines import LiveLines
from tui.widgets.theme import method_style
from tui.words import figures
from tui.words.cells import fit

LABEL_WIDTH: Final = 7
HEADROOM: Final = 1.04
STEPS: Final = 8  # in which an axis grows to the double


class RacePlot(LiveLines):
    """A curve a method, level while a request ran, in the height that the style gives. Both axes begin at 0."""

    DEFAULT_CSS = """
    RacePlot { height: 1fr; }
    """

    def draw(self, width: int) -> list[list[Piece]]:
        live = self.live
        rows, columns = self.content_size.height - 1, width - LABEL_WIDTH - 1
        if live is None or rows < 1 or columns < 8:
            return []
        laps = {row.name: row.laps for row in live.methods}
        rates = [lap.tok_s for own in laps.values() for lap in own]
        if live.lap is not None:
            rates.append(live.lap.tok_s)
        if not rates:
            return [[("Nothing has been timed yet.", "dim")]]
        end, top = end_of_axis(max(live.elapsed_s, 1e-3)), end_of_axis(HEADROOM * max(rates))
        canvas = Canvas(columns, rows, (0.0, end), (0.0, top))
        order = sorted(enumerate(live.methods), key=lambda each: each[1].name == live.method)  # the running one on top
        for place, row in order:
            faint = live.method is not None and row.name != live.method
            style = method_style(place, faint=faint)
            own = [*row.laps, live.lap] if row.name == live.method and live.lap is not None else row.laps
            at = [second for lap in own for second in (lap.start_s, lap.end_s)]
            canvas.draw(at, [lap.tok_s for lap in own for _ in range(2)], style)
        lines: list[list[Piece]] = []
        for line in range(rows):
            label = figures.rate(top) if line == 0 else "0" if line == rows - 1 else ""
            if 0 < line < rows - 1 and rows >= 7 and line == rows // 2:
                label = figures.rate(top * (1 - (line + 0.5) / rows))
            lines.append([(fit(label, LABEL_WIDTH, right=True), "dim"), ("│", "dim"), *canvas.line(line)])
        left, right = "0", f"{figures.duration(end)}"
        below = left + right.rjust(columns - len(left))
        return [*lines, [(fit("tok/s", LABEL_WIDTH, right=True) + " " + below, "dim")]]


def end_of_axis(highest: float) -> float:
    """A round value from `highest` on: an axis that grew with every frame would repaint the whole plot."""
    step = 2.0 ** math.floor(math.log2(highest)) / STEPS if highest > 0 else 1.0
    return math.ceil(highest / step) * step
