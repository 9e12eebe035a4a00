"""Sessions under load at a glance: the methods at each point, with what is most asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sessions.verdict.load_row import LoadRow
from tui.widgets.comparison_table import row_places
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.theme import method_style
from tui.words.load_lines import load_lines

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison


class LoadTable(DrawnLines):
    """As the command line prints it; nothing where no row is of a load."""

    DEFAULT_CSS = """
    LoadTable { padding: 0 1; margin-bottom: 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._comparison: Comparison | None = None
        self._rows: Sequence[LoadRow] = ()

    def show_comparison(self, comparison: Comparison | None) -> None:
        self._comparison = comparison
        self._rows = [row for row in comparison.rows if isinstance(row, LoadRow)] if comparison else []
        self.display = bool(self._rows)
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        if self._comparison is None or not self._rows:
            return []
        places = row_places(self._comparison.rows)
        return list(
            load_lines(
                self._rows,
                self._comparison.columns,
                width,
                lambda row: method_style(places[(row.session, row.method)]),
            )
        )
