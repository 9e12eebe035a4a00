"""The result table of a measurement, and the sentences below it, for a terminal of any width."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sessions.verdict.comparison import Comparison
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.load_row import LoadRow
from sessions.verdict.table_choice import ALL, TableChoice
from tui.words.chosen_lines import chosen_lines
from tui.words.load_lines import load_lines, load_sentences
from tui.words.offer_text import fidelity_offer, offer
from tui.words.result_text import WORDS, text_of, tone_of
from tui.words.terminal_text import one_line
from tui.words.verdict_text import said_of

STYLES: Final = {"bad": "bold red", "title": "bold"}  # of what a cell's tone is, what a plain table marks
MEANT: Final = {"title": "bold", "dim": "bold", "bad": "red"}  # of what a piece of a load's table is


def print_comparison(console: Console, comparison: Comparison, choice: TableChoice = ALL) -> None:
    """The rows as a table; below it a sentence for each method: the verdict and its caveats."""
    comparison = replace(comparison, rows=choice.rows_of(comparison))
    several = len({row.session for row in comparison.rows}) > 1
    loads = [row for row in comparison.rows if isinstance(row, LoadRow)]
    if choice.columns:
        for line in chosen_lines(comparison, choice, console.width, lambda _: ""):
            console.print(Text.assemble(*((text, STYLES.get(how, "")) for text, how in line)), no_wrap=True)
    elif loads:
        for line in load_lines(loads, comparison.columns, console.width, lambda _: ""):
            console.print(Text.assemble(*((text, MEANT.get(how, "")) for text, how in line)), no_wrap=True)
    else:
        console.print(_table(comparison, several))
    console.print()
    sentences = (
        [Text(text, style=MEANT.get(how, "")) for text, how in load_sentences(loads)]
        if loads
        else [_sentence(row, several) for row in comparison.rows]
    )
    for sentence in sentences:
        console.print(sentence, soft_wrap=False)
    for name, values in comparison.differences:
        shown = ", ".join(f"{session}: {one_line(str(value), 60)}" for session, value in values.items())
        label = "NOT COMPARABLE, differs" if name in comparison.refused else "differs"
        console.print(Text(f"{label} in {name}: {shown}", style="yellow"))
    for session, more in comparison.offers.items():
        console.print(Text(offer(session, more)), soft_wrap=True)
    for session in comparison.unscored:
        console.print(Text(fidelity_offer(session), style="dim"), soft_wrap=True)
    for floor in comparison.remarks:
        console.print(Text(one_line(floor, 600), style="dim"))


def _table(comparison: Comparison, several: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", collapse_padding=True)
    if several:
        table.add_column("session", no_wrap=True)
    table.add_column("method", no_wrap=True)
    columns = comparison.columns.cells("table", comparison.rows)
    for column in columns:
        table.add_column(column.heading, justify="left" if column.kind in WORDS else "right", no_wrap=True)
    for row in comparison.rows:
        names = [row.session] if several else []
        cells = [Text(text_of(column, row), style=STYLES.get(tone_of(column, row), "")) for column in columns]
        table.add_row(*map(Text, [*names, one_line(row.method, 40)]), *cells)
    return table


def _sentence(row: ComparisonRow, several: bool) -> Text:
    name = f"{row.session}:{row.method}".rstrip(":") if several or not row.method else row.method
    style = "red" if row.in_effect is False or row.problem else ""
    return Text(f"{one_line(name, 60)}: {one_line('; '.join(said_of(row)), 500)}", style=style)
