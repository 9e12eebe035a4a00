"""The table of methods that a measurement ends with, and the sentences below it, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sessions.verdict.comparison import Comparison, ComparisonRow
from tui.words.figures import UNKNOWN, duration, joules_per_token, percent, rate, size, yes_no
from tui.words.terminal_text import one_line
from tui.words.verdict_text import said_of

# Columns that are there only where some row has them.
OPTIONAL: Final[tuple[tuple[str, Callable[[ComparisonRow], str]], ...]] = (
    ("J/tok", lambda row: joules_per_token(row.energy_j_per_token)),
    ("MBU", lambda row: UNKNOWN if row.mbu is None else percent(row.mbu * 100)),
    ("DRAM", lambda row: percent(row.dram_active_percent)),
    ("1st diff.", lambda row: UNKNOWN if row.first_difference is None else str(row.first_difference)),
)


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The rows as a table; below it a sentence for each method: the verdict, and what makes it doubtful."""
    several = len({row.session for row in comparison.rows}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    if several:
        table.add_column("session", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for name in ("tok/s", "±95 %", "× ref", "TTFT", "ITL p50", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    optional = [column for column in OPTIONAL if any(column[1](row) != UNKNOWN for row in comparison.rows)]
    for name, _ in optional:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("in effect", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row, several), *(Text(cell(row)) for _, cell in optional), _effect(row))
    console.print(table)
    console.print()
    for row in comparison.rows:
        console.print(_sentence(row, several), soft_wrap=False)
    for name, values in comparison.differences:
        shown = ", ".join(f"{session}: {one_line(str(value), 60)}" for session, value in values.items())
        label = "NOT COMPARABLE, differs" if name in comparison.refused else "differs"
        console.print(Text(f"{label} in {name}: {shown}", style="yellow"))
    for floor in (*comparison.noise_floors, *comparison.observer_effects):
        console.print(Text(one_line(floor, 300), style="dim"))


def _cells(row: ComparisonRow, several: bool) -> list[Text]:
    half = (row.tok_s_high - row.tok_s_low) / 2 if row.tok_s_high is not None and row.tok_s_low is not None else None
    memory = row.peak_vram_bytes if row.peak_vram_bytes is not None else row.peak_rss_bytes
    cells = [Text(row.session)] if several else []
    cells += [
        Text(one_line(row.method, 40)),
        Text(rate(row.tok_s_mean)),
        Text(UNKNOWN if half is None else rate(half)),
        Text(UNKNOWN if row.ratio is None else f"{row.ratio:.2f}"),
        Text(duration(row.ttft_s_median)),
        Text(duration(row.itl_s_p50)),
        Text(size(memory)),
    ]
    return cells


def _effect(row: ComparisonRow) -> Text:
    return Text(yes_no(row.in_effect), style="bold red" if row.in_effect is False else "")


def _sentence(row: ComparisonRow, several: bool) -> Text:
    name = f"{row.session}:{row.method}".rstrip(":") if several or not row.method else row.method
    style = "red" if row.in_effect is False or row.problem else ""
    return Text(f"{one_line(name, 60)}: {one_line('; '.join(said_of(row)), 500)}", style=style)
