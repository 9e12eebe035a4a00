"""All methods' tokens/s over the session's time, the running one bright; below it what ran and what was read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from tui.widgets.braille_canvas import Canvas
from tui.widgets.drawn_lines import Piece
from tui.widgets.live_lines import LiveLines
from tui.widgets.strips import block_strip, end_of_axis, reading_strip, reading_text, top_of
from tui.widgets.theme import method_style, sign_of
from tui.words import figures
from tui.words.cells import fit

if TYPE_CHECKING:
    from sessions.watch.laps import Lap
    from sessions.watch.live import Live

LABEL_WIDTH: Final = 7
HEADROOM: Final = 1.04
STRIP_LABEL: Final = 16  # of a strip: its word and the end of its axis
PLOT_LEAST: Final = 4  # lines, before there is room for strips


class RacePlot(LiveLines):
    """A curve a method, level while a request ran, in the height that the style gives. All axes begin at 0.

    Under load it is that of all requests in flight together, and has gaps where other methods ran.

    Below the curves, on their axis and as far as there is room: a strip a lane of the blocks that ran there, then the
    machine's readings.
    """

    DEFAULT_CSS = """
    RacePlot { height: 1fr; }
    """

    def draw(self, width: int) -> list[list[Piece]]:
        live = self.live
        height = self.content_size.height
        if live is None or height < 2 or width < LABEL_WIDTH + 9:
            return []
        end = end_of_axis(max(live.elapsed_s, 1e-3))
        strips = self._below(live, end, width)[: max(0, height - 1 - PLOT_LEAST)]
        label = STRIP_LABEL if strips else LABEL_WIDTH
        columns = width - label - 1
        left, right = "0", f"{figures.duration(end)}"
        below = left + right.rjust(columns - len(left))
        return [
            *self._curves(live, end, height - 1 - len(strips), label, columns),
            *strips,
            [(fit("tok/s", label, right=True) + " " + below, "dim")],
        ]

    def _curves(self, live: Live, end: float, rows: int, label_width: int, columns: int) -> list[list[Piece]]:
        laps = {row.name: row.laps for row in live.methods}
        rates = [lap.tok_s for own in laps.values() for lap in own]
        if live.lap is not None:
            rates.append(live.lap.tok_s)
        if not rates:
            return [[("Nothing has been timed yet.", "dim")], *([[]] * (rows - 1))]
        top = end_of_axis(HEADROOM * max(rates))
        canvas = Canvas(columns, rows, (0.0, end), (0.0, top))
        order = sorted(enumerate(live.methods), key=lambda each: each[1].name in live.at_work)  # those that run on top
        for place, row in order:
            faint = bool(live.at_work) and row.name not in live.at_work
            style = method_style(place, faint=faint)
            own = [*row.laps, live.lap] if row.name == live.method and live.lap is not None else row.laps
            for run in _blocks(live, row.name, own) if live.points else [own]:
                at = [second for lap in run for second in (lap.start_s, lap.end_s)]
                canvas.draw(at, [lap.tok_s for lap in run for _ in range(2)], style)
        for place, row in order:
            if row.laps:  # without colours a curve is known by its sign
                style = method_style(place, faint=bool(live.at_work) and row.name not in live.at_work)
                canvas.mark(row.laps[-1].end_s, row.laps[-1].tok_s, sign_of(style), style)
        lines: list[list[Piece]] = []
        for line in range(rows):
            label = figures.rate(top) if line == 0 else "0" if line == rows - 1 else ""
            if 0 < line < rows - 1 and rows >= 7 and line == rows // 2:
                label = figures.rate(top * (1 - (line + 0.5) / rows))
            lines.append([(fit(label, label_width, right=True), "dim"), ("│", "dim"), *canvas.line(line)])
        return lines

    def _below(self, live: Live, end: float, width: int) -> list[list[Piece]]:
        columns, window = width - STRIP_LABEL - 1, (0.0, end)
        if columns < 8:
            return []
        places = {row.name: place for place, row in enumerate(live.methods)}
        lanes = sorted({span.lane for span in live.blocks})
        lines: list[list[Piece]] = []
        for lane in lanes:
            name = f"lane {lane + 1}" if len(lanes) > 1 else "blocks"
            own = [span for span in live.blocks if span.lane == lane]
            strip = block_strip(own, places, (0.0, end), columns)
            lines.append([(fit(name, STRIP_LABEL), "dim"), ("│", "dim"), *strip])
        for track in live.tracks:
            top = top_of(track.kind, track.values)
            said = reading_text(track.kind)(top)
            label = track.kind.word + said.rjust(STRIP_LABEL - len(track.kind.word))
            lines.append([(label, "dim"), ("│", "dim"), *reading_strip(track, window, columns, top)])
        return lines


def _blocks(live: Live, method: str, laps: Sequence[Lap]) -> Iterator[list[Lap]]:
    """The laps of each of a method's blocks."""
    starts = [span.start_s for span in live.blocks if span.method == method]
    for _, run in groupby(laps, key=lambda lap: bisect_right(starts, lap.end_s)):
        yield list(run)
