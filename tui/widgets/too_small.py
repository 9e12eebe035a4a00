"""What stands over a screen in a terminal that is too small for it."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.widgets import Static

LEAST = Size(60, 16)


class TooSmall(Static):
    """A sentence instead of the screen, which goes on below it."""

    DEFAULT_CSS = """
    TooSmall { layer: over; dock: top; width: 100%; height: 100%; display: none; background: $background; }
    """

    def judge(self, size: Size) -> bool:
        """Whether a terminal of this size is too small; says so where it is."""
        tiny = size.width < LEAST.width or size.height < LEAST.height
        if tiny:
            least = f"{LEAST.width}×{LEAST.height}"
            self.update(Content(f"{size.width}×{size.height} is too small: make the terminal {least} or more."))
        return tiny
