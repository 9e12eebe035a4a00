"""The legend above a picture: its title, then each series by its sign and name."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len

from tui.widgets.drawn_lines import Piece
from tui.widgets.theme import sign_of
from tui.words.cells import cut


def legend(title: str, series: Iterable[tuple[str, str]], width: int) -> list[list[Piece]]:
    """Lines of pieces, at most `width` cells each; a series is its name ("": it is not named) and its style."""
    lines: list[list[Piece]] = [[(cut(title, width), "title")]]
    used = cell_len(title)
    for name, style in series:
        if not name:
            continue
        piece = cut(f"  {sign_of(style)} {name}", width)
        if used + cell_len(piece) > width:
            lines.append([])
            used = 0
        lines[-1].append((piece, style))
        used += cell_len(piece)
    return lines
