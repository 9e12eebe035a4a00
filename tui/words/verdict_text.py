"""A row of a comparison in words: its verdict, and what makes it doubtful."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessions.verdict.comparison import ComparisonRow


def said_of(row: ComparisonRow) -> list[str]:
    """Parts of a sentence, the verdict first; text of any origin, not yet made harmless for a terminal."""
    parts = [row.verdict] if row.verdict else []
    if row.status and row.status != "ok":
        parts.insert(0, row.status)
    if row.in_effect is False:
        parts.append(f"NOT in effect: {row.in_effect_reason}")
    if row.first_difference is not None:
        parts.append(row.difference or f"the greedy text leaves the reference's at token {row.first_difference}")
    if row.problem:
        parts.append(row.problem)
    return parts + [f"flag: {flag}" for flag in row.flags if not flag.startswith("method not in effect")]
