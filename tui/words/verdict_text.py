"""A row of a comparison in words: its verdict and its caveats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessions.verdict.result_columns import columns_of
from tui.words.result_text import text_of

if TYPE_CHECKING:
    from sessions.verdict.comparison_row import ComparisonRow
    from sessions.verdict.result_columns import Face


def labelled(row: ComparisonRow, face: Face) -> list[str]:
    """The sentences that the row's columns have for this face, each with its heading."""
    columns = columns_of(type(row)).sentences(face, [row])
    return [f"{column.heading}: {text_of(column, row)}" for column in columns]


def said_of(row: ComparisonRow) -> list[str]:
    """Parts of a sentence, the verdict first; text of any origin, not yet made harmless for a terminal."""
    parts = [row.verdict] if row.verdict else []
    if row.status and row.status != "ok":
        parts.insert(0, row.status)
    if row.in_effect is False:
        parts.append(f"NOT in effect: {row.in_effect_reason}")
    if row.first_difference is not None:
        parts.append(row.difference or f"the greedy text diverges from the reference's at token {row.first_difference}")
    if row.problem:
        parts.append(row.problem)
    parts += labelled(row, "table")
    return parts + [f"flag: {flag}" for flag in row.flags if not flag.startswith("method not in effect")]
