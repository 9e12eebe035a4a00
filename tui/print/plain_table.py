"""Rows in columns as plain lines: for lists of thousands, which rich lays out cell by cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tui.words.cells import fit

GAP: Final = "  "
NARROWEST: Final = 6


def table_lines(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, whole: int = 0) -> Iterator[str]:
    """A line for the head and one for each row, each column as wide as its widest cell.

    Where that is more than `width` cells (None: any width will do) the widest columns are cut, but not the first
    `whole` of them. Cells are one line each.
    """
    columns = list(zip(head, *rows, strict=True))
    widths = [max(map(_cells, column)) for column in columns]
    if width is not None:
        _narrow(widths, width - len(GAP) * (len(widths) - 1), whole)
    for row in (head, *rows):
        cells = [
            cell.ljust(room) if cell.isascii() and len(cell) <= room else fit(cell, room)
            for cell, room in zip(row, widths, strict=True)
        ]
        yield GAP.join(cells).rstrip()


def _cells(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _narrow(widths: list[int], room: int, whole: int) -> None:
    """Take from the widest until they fit, or until all are at their narrowest."""
    places = range(whole, len(widths))
    while sum(widths) > room:
        widest = max(places, key=lambda place: widths[place], default=None)
        if widest is None or widths[widest] <= NARROWEST:
            return
        widths[widest] -= 1
