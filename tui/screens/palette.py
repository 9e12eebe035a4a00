"""The command palette, closed only once by two quick enters."""

from __future__ import annotations

from textual.command import CommandPalette

from tui.screens.dismissed_once import DismissedOnce


class Palette(DismissedOnce, CommandPalette):
    """Textual's own in all else."""
