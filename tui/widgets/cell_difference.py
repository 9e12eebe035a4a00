"""What each cell of a line holds, and the spans in which two lines differ."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from rich.cells import cell_len, get_character_cell_size
from rich.segment import Segment
from rich.style import Style

Cell = tuple[str, Style | None, int, int]  # text that cannot be parted, its style, which of its cells, of how many
JOINED_CELLS: Final = 6  # two changes nearer than this are cheaper as one: a cursor move costs about as many bytes


def cells_of(segments: Iterable[Segment]) -> list[Cell]:
    """A cell for each column."""
    return cells_between(segments, 0, sys.maxsize)[1]


def cells_between(segments: Iterable[Segment], low: int, high: int) -> tuple[int, list[Cell]]:
    """Those of the characters that reach into the columns [low, high), and the column of the first.

    Text that holds marks of no width is not parted.
    """
    begin, at = low, 0
    cells: list[Cell] = []
    for text, style, control in segments:
        if control:
            continue
        if at >= high:
            break
        if text.isascii():
            after = at + len(text)
            if after > low:
                cells += [(character, style, 0, 1) for character in text[max(0, low - at) : high - at]]
        else:
            parts = _parted(text)
            after = at + len(parts)
            if after > low:
                first, last = max(0, low - at), min(len(parts), high - at)
                first -= parts[first][1]
                if last < len(parts) and parts[last][1]:
                    last += parts[last][2] - parts[last][1]
                begin = min(begin, at + first)
                cells += [(part, style, place, size) for part, place, size in parts[first:last]]
        at = after
    return begin, cells


@lru_cache(2048)
def _parted(text: str) -> tuple[tuple[str, int, int], ...]:
    sizes, whole = [get_character_cell_size(character) for character in text], cell_len(text)
    if 0 in sizes or sum(sizes) != whole:
        return tuple((text, place, whole) for place in range(whole))
    return tuple((part, place, size) for part, size in zip(text, sizes, strict=True) for place in range(size))


def difference(before: Sequence[Cell], after: Sequence[Cell]) -> list[tuple[int, int]]:
    """Spans [start, end) of cells of `after`, none within a character, that `before` has not; close ones are joined.

    What `before` lacks at its end is different.
    """
    spans: list[tuple[int, int]] = []
    known = len(before)
    for x, cell in enumerate(after):
        if x < known and before[x] == cell:
            continue
        _, _, place, size = cell
        start, end = x - place, x - place + size
        if spans and start - spans[-1][1] < JOINED_CELLS:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    return spans
