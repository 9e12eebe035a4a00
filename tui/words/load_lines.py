"""The result table of sessions under load, and what is said below it: the methods at each point, at any width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from rich.cells import cell_len

from sessions.verdict.load_row import LoadRow
from sessions.verdict.result_columns import ResultColumn, ResultColumns
from tui.words.cells import cut, fit
from tui.words.point_text import point_text
from tui.words.result_text import WORDS, text_of, tone_of
from tui.words.terminal_text import one_line
from tui.words.verdict_text import said_of

Piece = tuple[str, str]  # text, and how it is meant: title, dim, bad, warning, or the style of a method
NAME_MOST: Final = 28
# What is left out first where the width does not hold all columns; what is not named here stays.
LESS: Final = (
    *(
        "dram_active_percent",
        "accepted_per_step",
        "peak_memory_bytes",
        "itl_s_p50",
        "in_effect",
        "mbu",
        "rps",
        "energy_j_per_token",
    ),
    *("itl_s_p99", "ttft_s_median"),
)


def load_lines(
    rows: Sequence[LoadRow], columns: ResultColumns, width: int, style_of: Callable[[LoadRow], str]
) -> Iterator[list[Piece]]:
    """A line for each point, and below it one for each method there, its name in the style that it has."""
    several = len({row.session for row in rows}) > 1
    names = [f"  {one_line(_name(row, several), NAME_MOST)}" for row in rows]
    wide = max(map(cell_len, names))
    found = columns.cells("table", rows)
    cells = {column.key: [text_of(column, row) for row in rows] for column in found}
    widths = {column.key: max(map(cell_len, [column.heading, *cells[column.key]])) for column in found}
    shown = _fitting(found, widths, width - wide)
    yield [(" " * wide + "".join(f" {_cell(column, column.heading, widths)}" for column in shown), "dim")]
    for head, places in groupby(range(len(rows)), key=lambda place: rows[place].point):
        own = list(places)
        yield [(cut(f"{head}: {point_text(rows[own[0]])}", width), "title")]
        for place in own:
            line = [(fit(names[place], wide), style_of(rows[place]))]
            for column in shown:
                tone = tone_of(column, rows[place])
                line.append((f" {_cell(column, cells[column.key][place], widths)}", "bad" if tone == "bad" else ""))
            yield line


def load_sentences(rows: Sequence[LoadRow]) -> Iterator[Piece]:
    """What the verdicts and caveats of a method are, each once for all its points that share it, then its flags."""
    several = len({row.session for row in rows}) > 1
    sentences: dict[tuple[str, str, str], dict[str, None]] = {}
    flagged: dict[tuple[str, str], tuple[str, dict[str, None]]] = {}
    for row in rows:
        flags = [f"flag: {flag}" for flag in row.flags]
        said = [part for part in said_of(row) if part not in flags and part != "the reference"]
        if said:
            style = "bad" if row.in_effect is False or row.problem else ""
            told = one_line(_name(row, several), 60), one_line("; ".join(said), 500), style
            sentences.setdefault(told, {})[row.point] = None
        for flag in row.flags:
            name, _, cause = flag.partition(": ")
            flagged.setdefault((_name(row, several), name), (cause, {}))[1][row.point] = None
    for (method, sentence, style), points in sentences.items():
        yield f"{', '.join(points)}, {method}: {sentence}", style
    for (method, name), (cause, points) in flagged.items():
        if name != "method not in effect":
            flag = f"{method}: flag at {', '.join(points)}: {name}{': ' if cause else ''}{cause}"
            yield one_line(flag, 500), "warning"


def _name(row: LoadRow, several: bool) -> str:
    return f"{row.session[-6:]}:{row.method}" if several else row.method


def _cell(column: ResultColumn, text: str, widths: dict[str, int]) -> str:
    return fit(text, widths[column.key], right=column.kind not in WORDS)


def _fitting(columns: Sequence[ResultColumn], widths: dict[str, int], room: int) -> list[ResultColumn]:
    """Those columns that the room holds."""
    left = list(columns)
    for key in LESS:
        if sum(1 + widths[column.key] for column in left) <= room:
            break
        left = [column for column in left if column.key != key]
    return left
