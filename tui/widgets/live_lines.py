"""Lines drawn from the live state of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.widgets.drawn_lines import DrawnLines

if TYPE_CHECKING:
    from sessions.watch.live import Live


class LiveLines(DrawnLines):
    """Subclasses draw `live`, which is None until it is shown."""

    DEFAULT_CSS = """
    LiveLines { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.live: Live | None = None

    def show_live(self, live: Live) -> None:
        """Draw this state instead."""
        self.live = live
        self.show()
