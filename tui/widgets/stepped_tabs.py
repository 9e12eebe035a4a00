"""Tabs that keys step through."""

from __future__ import annotations

from textual import on
from textual.widgets import TabbedContent, TabPane


class SteppedTabs(TabbedContent):
    """The tab that was asked for last stays, however fast one asks.

    Textual's goes to whatever tab has got the focus; a focus that was on its way when the next key came took that
    key back.
    """

    @on(TabPane.Focused)
    def stay(self, event: TabPane.Focused) -> None:
        event.prevent_default()
        event.stop()

    def step(self, by: int) -> None:
        """Show the tab so many places on, the first after the last."""
        panes = [pane.id or "" for pane in self.query(TabPane)]
        self.active = panes[(panes.index(self.active) + by) % len(panes)]
