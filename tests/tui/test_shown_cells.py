"""Only cells that differ from what the terminal shows are written, and what it shows is right all the same."""

from __future__ import annotations

import pyte
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from tui.shown_cells import ShownCells
from tui.widgets.cell_difference import cells_of, difference

WIDTH, HEIGHT = 12, 3
STYLES = (Style(), Style(bold=True), Style(color="red"))
PIECES = st.lists(st.tuples(st.text("ab 日本é", min_size=1, max_size=6), st.sampled_from(STYLES)), max_size=5)
UPDATES = st.lists(
    st.tuples(st.booleans(), st.integers(0, HEIGHT - 1), st.integers(0, WIDTH), st.integers(0, WIDTH), PIECES),
    min_size=1,
    max_size=6,
)
CONSOLE = Console(color_system="truecolor", force_terminal=True)


def line(pieces: list[tuple[str, Style]]) -> Strip:
    return Strip([Segment(text, style) for text, style in pieces]).adjust_cell_length(WIDTH)


def whole(lines: list[Strip]) -> LayoutUpdate:
    return LayoutUpdate([[line] for line in lines], Region(0, 0, WIDTH, HEIGHT))


def screen() -> tuple[pyte.Screen, pyte.Stream]:
    shown = pyte.Screen(WIDTH, HEIGHT)
    shown.reset_mode(pyte.modes.DECAWM)
    return shown, pyte.Stream(shown)


def seen(shown: pyte.Screen) -> list[list[tuple[str, str, bool]]]:
    return [
        [(cell.data, cell.fg, cell.bold) for cell in map(row.__getitem__, range(WIDTH))]
        for row in map(shown.buffer.__getitem__, range(HEIGHT))
    ]


@given(UPDATES)
def test_a_terminal_shows_the_same_as_if_all_was_written(
    updates: list[tuple[bool, int, int, int, list[tuple[str, Style]]]],
) -> None:
    cells = ShownCells()
    spared, stream = screen()
    lines = [line([])] * HEIGHT
    stream.feed(cells.written(whole(lines), CONSOLE))
    for at_once, y, cut, wider, pieces in updates:
        ends = sorted({cut, WIDTH} - {0})
        parts = line(pieces).divide(ends)
        before, lines[y] = lines[y], Strip.join(parts)
        changed = difference(cells_of(before), cells_of(lines[y])) or [(cut, cut)]
        first, last = max(0, changed[0][0] - wider), min(WIDTH, changed[-1][1] + wider)
        chops = dict(zip([0, *ends], parts, strict=False))
        partial = ChopsUpdate([chops] * HEIGHT, [(y, first, last)], [ends] * HEIGHT)
        update = whole(lines) if at_once else partial
        stream.feed(cells.written(update, CONSOLE))
        expected, all_of_it = screen()
        all_of_it.feed(whole(lines).render_segments(CONSOLE).replace("\n", "\r\n"))
        assert seen(spared) == seen(expected)
        assert cells.written(update, CONSOLE) == cells.written(whole(lines), CONSOLE) == "", "it is there"
    cells.forget()
    assert len(cells.written(whole(lines), CONSOLE)) > WIDTH * HEIGHT
