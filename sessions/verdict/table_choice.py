"""Which result columns a table of a comparison has, and by which its rows are sorted: one rule for every face."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_row import LoadRow
from sessions.verdict.result_columns import ResultColumn, columns_of

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison

NAMES: Final = ("session", "method", "point")  # which row it is: in every table, before the chosen columns
DESCENDING: Final = ":desc"


def known_columns() -> dict[str, ResultColumn]:
    """By key, all that can be chosen: those of the data, with those that only a load has."""
    return {column.key: column for column in columns_of(LoadRow).data}


@dataclass(frozen=True, slots=True)
class TableChoice:
    """`columns` are keys in their order, none of them for all columns; `sort` is a key, "" for the order as it came."""

    columns: tuple[str, ...] = ()
    sort: str = ""
    descending: bool = False

    @classmethod
    def of(cls, columns: Sequence[str], sort: str) -> TableChoice:
        """What was typed or kept: `sort` is KEY or KEY:desc. Raises ValueError with a sentence."""
        by = sort.removesuffix(DESCENDING)
        known = known_columns()
        for key in (*columns, *([by] if by else [])):
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                said = f"did you mean {near[0]!r}?" if near else "docs/definitions.md lists them."
                raise ValueError(f"There is no result column {key!r}: {said}")
        return cls(tuple(dict.fromkeys(columns)), by, by != sort)

    @property
    def sort_words(self) -> str:
        """As `of` takes it."""
        return self.sort + (DESCENDING if self.descending else "")

    def columns_of(self, comparison: Comparison) -> tuple[ResultColumn, ...]:
        """The columns that the data have: of those chosen, the ones that this comparison knows."""
        data = comparison.columns.data
        if not self.columns:
            return data
        known = {column.key: column for column in data}
        wanted = dict.fromkeys((*NAMES, *self.columns))
        return tuple(known[key] for key in wanted if key in known)

    def rows_of(self, comparison: Comparison) -> tuple[ComparisonRow, ...]:
        """The rows in the chosen order, those that do not know the figure last."""
        column = next((column for column in comparison.columns.data if column.key == self.sort), None)
        if column is None:
            return comparison.rows
        known = [row for row in comparison.rows if _rank(column.value(row)) is not None]
        unknown = [row for row in comparison.rows if _rank(column.value(row)) is None]
        return (*sorted(known, key=lambda row: _rank(column.value(row)), reverse=self.descending), *unknown)


ALL: Final = TableChoice()


def _rank(value: object) -> Any:
    """What values of a column are sorted by; None where there is none."""
    if value is None or value in ("", ()) or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, int | float) else str(value).casefold()
