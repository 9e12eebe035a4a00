"""The table of methods that a measurement ends with, and the sentences below it, for a terminal of any width."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sessions.comparison import Comparison, ComparisonRow
from tui.figures import UNKNOWN, duration, joules_per_token, rate, size, yes_no
from tui.terminal_text import one_line


def print_comparison(console: Console, comparison: Comparison) -> None:
    """The rows as a table; below it a sentence for each method: the verdict, and what makes it doubtful."""
    several = len({row.session for row in comparison.rows}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    if several:
        table.add_column("session", no_wrap=True)
    table.add_column("method", no_wrap=True)
    for name in ("tok/s", "±95 %", "× ref", "TTFT", "ITL p50", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    if any(row.energy_j_per_token is not None for row in comparison.rows):
        table.add_column("J/tok", justify="right", no_wrap=True)
    table.add_column("in effect", no_wrap=True)
    for row in comparison.rows:
        table.add_row(*_cells(row, several, len(table.columns)))
    console.print(table)
    console.print()
    for row in comparison.rows:
        console.print(_sentence(row, several), soft_wrap=False)
    for name, values in comparison.differences:
        shown = ", ".join(f"{session}: {one_line(str(value), 60)}" for session, value in values.items())
        console.print(Text(f"differs in {name}: {shown}", style="yellow"))


def _cells(row: ComparisonRow, several: bool, columns: int) -> list[Text]:
    half = (row.tok_s_high - row.tok_s_low) / 2 if row.tok_s_high is not None and row.tok_s_low is not None else None
    memory = row.peak_vram_bytes if row.peak_vram_bytes is not None else row.peak_rss_bytes
    effect = Text(yes_no(row.in_effect), style="bold red" if row.in_effect is False else "")
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
    if columns == len(cells) + 2:
        cells.append(Text(joules_per_token(row.energy_j_per_token)))
    return [*cells, effect]


def _sentence(row: ComparisonRow, several: bool) -> Text:
    name = f"{row.session}:{row.method}" if several else row.method
    parts = [row.verdict] if row.verdict else []
    if row.status and row.status != "ok":
        parts.insert(0, row.status)
    if row.in_effect is False:
        parts.append(f"NOT in effect: {row.in_effect_reason}")
    if row.problem:
        parts.append(row.problem)
    parts += [f"flag: {flag}" for flag in row.flags]
    style = "red" if row.in_effect is False or row.problem else ""
    return Text(f"{one_line(name, 60)}: {one_line('; '.join(parts), 500)}", style=style)
