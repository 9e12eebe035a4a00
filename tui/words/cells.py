"""Text in terminal cells: a Japanese character takes two."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size


def cut(text: str, width: int) -> str:
    """`text` in at most `width` cells, with an ellipsis where it was cut."""
    if width <= 0:
        return ""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def fit(text: str, width: int, right: bool = False) -> str:
    """`text` in exactly `width` cells, at the left or the right of them."""
    shown = cut(text, width)
    blank = " " * (max(0, width) - cell_len(shown))
    return blank + shown if right else shown + blank


def unparted(text: str) -> str:
    """The text with no place for a line break between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
