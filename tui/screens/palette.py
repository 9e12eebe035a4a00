"""The command palette, which two quick enters do not take the screen below away with."""

from __future__ import annotations

from textual.command import CommandPalette

from tui.screens.dismissed_once import DismissedOnce


class Palette(DismissedOnce, CommandPalette):
    """Textual's own in all else."""
