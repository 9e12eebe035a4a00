"""The DRAM utilisation that the GPU counts stands beside the share of the bandwidth that is worked out."""

from __future__ import annotations

import io

from rich.console import Console

from sessions.verdict.comparison import Comparison
from sessions.verdict.comparison_row import ComparisonRow
from tui.print.result_table import print_comparison

COUNTED = ComparisonRow("s", "counted", tok_s_mean=500.0, mbu=0.325, dram_active_percent=28.3)
NOT_COUNTED = ComparisonRow("s", "not-counted", tok_s_mean=500.0, mbu=0.325)


def printed(*rows: ComparisonRow) -> list[list[str]]:
    """The words of the table's lines, its heading first."""
    out = io.StringIO()
    print_comparison(Console(file=out, width=160, color_system=None), Comparison(rows))
    return [line.split() for line in out.getvalue().splitlines()[: len(rows) + 1]]


def test_it_is_a_column_where_the_gpu_counts() -> None:
    heading, counted, other = printed(COUNTED, NOT_COUNTED)
    assert heading[-4:] == ["MBU", "DRAM", "in", "effect"]
    assert " ".join(counted).count("28 %") == 1
    assert "28" not in other


def test_without_a_counter_there_is_no_column() -> None:
    assert "DRAM" not in printed(NOT_COUNTED)[0]
