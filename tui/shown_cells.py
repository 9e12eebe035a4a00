"""What the terminal shows, so that of an update only the cells that differ are written.

Textual writes a region whole whenever it is refreshed, twice where a container has changed its size, and the whole
screen when the focus moves: over a slow link that is what a key waits for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final

from rich.color import ColorSystem
from rich.console import Console
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

from tui.widgets.cell_difference import Cell, cells_between, cells_of, difference

Update = LayoutUpdate | ChopsUpdate
UNKNOWN: Final[Cell] = ("", None, 0, 1)


class ShownCells:
    """The cells of all lines as they were last written; nothing is known of a terminal that was resized or left."""

    def __init__(self) -> None:
        self._lines: dict[int, list[Cell]] = {}

    def forget(self) -> None:
        """The terminal may show something else."""
        self._lines.clear()

    def only_changes(self, update: Update) -> CompositorUpdate:
        """The update, less what is shown already at the moment at which it is written."""
        return _Changes(self, update)

    def written(self, update: Update, console: Console) -> str:
        """What to send for an update, which counts as shown from now on."""
        colours = console._color_system or ColorSystem.TRUECOLOR
        sequences: list[str] = []
        for y, x, cells in _lines(update) if isinstance(update, LayoutUpdate) else _spans(update):
            shown = self._lines.setdefault(y, [])
            shown += [UNKNOWN] * (x - len(shown))
            for start, end in difference(shown[x : x + len(cells)], cells):
                sequences.append(f"\x1b[{y + 1};{x + start + 1}H")
                sequences += _drawn(cells[start:end], colours)
            shown[x : x + len(cells)] = cells
        return "".join(sequences)


class _Changes(CompositorUpdate):
    def __init__(self, shown: ShownCells, update: Update) -> None:
        self._shown, self._update = shown, update

    def render_segments(self, console: Console) -> str:
        return self._shown.written(self._update, console)


def _drawn(cells: Sequence[Cell], colours: ColorSystem) -> Iterator[str]:
    """Whole characters, those of one style together."""
    for style, group in groupby(cells, key=itemgetter(1)):
        text = "".join(text for text, _, place, _ in group if not place)
        yield text if style is None else Strip.render_style(style, text, colours)


def _lines(update: LayoutUpdate) -> Iterator[tuple[int, int, list[Cell]]]:
    for y, line in enumerate(update.strips, update.region.y):
        yield y, update.region.x, [cell for strip in line for cell in cells_of(strip)]


def _spans(update: ChopsUpdate) -> Iterator[tuple[int, int, list[Cell]]]:
    """Of the strips that a span touches, the characters that it touches; those beside each other are one."""
    for y, first, last in update.spans:
        begin: int | None = None
        cells: list[Cell] = []
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < last and end > first:
                start, own = cells_between(strip, max(0, first - x), min(end, last) - x)
                begin = x + start if begin is None else begin
                cells += own
        if begin is not None:
            yield y, begin, cells
