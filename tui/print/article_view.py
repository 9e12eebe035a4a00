"""The article's tables on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sessions.export.article import CHARACTERS, SPOKEN_S, ArticleTables
from tui.words.figures import UNKNOWN, duration
from tui.words.terminal_text import one_line


def print_article(console: Console, tables: ArticleTables) -> None:
    """Machine, model, time taken, tokens/s per method, and how that compares with a person speaking."""
    for pairs in (tables.machine, tables.model):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for heading, _ in pairs:
            table.add_column(heading)
        table.add_row(*(Text(one_line(value, 60)) for _, value in pairs))
        console.print(table)
        console.print()
    if tables.total_s is not None:
        console.print(Text(f"Measuring took {tables.total_s:.2f} s ({duration(tables.total_s)})."))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("No.", justify="right")
    table.add_column("method")
    table.add_column("token/second", justify="right")
    for number, (method, rate) in enumerate(tables.methods, start=1):
        table.add_row(str(number), Text(one_line(method, 60)), UNKNOWN if rate is None else f"{rate:.2f}")
    console.print(table)
    closing = tables.closing
    console.print(
        Text(f"\n{CHARACTERS} characters are {closing.tokens} tokens (counted {one_line(closing.counted, 80)}).")
    )
    for method, seconds, times in closing.rows:
        said = f"{one_line(method, 60)} generates them in {seconds:.2f} s: {times:.2f} times as fast as a person speaks"
        console.print(Text(f"  {said} them ({SPOKEN_S:.0f} s)."))
    for note in tables.notes:
        console.print(Text(one_line(note, 400), style="yellow"))
