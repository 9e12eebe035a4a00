"""The report on a server that runs already, for a terminal of any width."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sessions.disk.plan import Plan
from sessions.verdict.server_figures import ServerFigures
from tui.words import server_report
from tui.words.terminal_text import one_line

LONGEST = 400


def print_server(console: Console, said: ServerFigures, plan: Plan) -> None:
    """What serves, how fast it is, what is not known, and what to run next."""
    console.print(Text(one_line(server_report.title(said), LONGEST), style="bold"))
    console.print()
    grid = Table.grid(padding=(0, 3))
    for label, words in server_report.figures(said):
        grid.add_row(label, Text(one_line(words, LONGEST)))
    console.print(grid)
    console.print(Text("\nNot known", style="bold"))
    for what, why in server_report.unknown(said):
        console.print(Padding(Text(one_line(f"{what}: {why}", LONGEST)), (0, 2), expand=False))
    console.print()
    console.print(Text("Next", style="bold"))
    for command, purpose in server_report.next_steps(said, plan):
        console.print(Text(f"  {one_line(purpose, LONGEST)}:"))
        console.print(Text(f"    {one_line(command, LONGEST)}"), soft_wrap=True)
