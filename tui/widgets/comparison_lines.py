"""Lines drawn from a comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.widgets.drawn_lines import DrawnLines

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison


class ComparisonLines(DrawnLines):
    """Subclasses draw `comparison`, which is None until one is shown."""

    DEFAULT_CSS = """
    ComparisonLines { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.comparison: Comparison | None = None

    def show_comparison(self, comparison: Comparison | None) -> None:
        """Draw this one instead."""
        self.comparison = comparison
        self.refresh(layout=True)
        self.show()
