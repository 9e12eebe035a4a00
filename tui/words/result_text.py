"""What a result column says of a row, in words: one text for each kind, the same on every face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from sessions.verdict.fidelity_words import nats, nats_range
from sessions.verdict.result_columns import Kind, ResultColumn, ResultColumns, Tone
from tui.words import figures
from tui.words.terminal_text import one_line

# Between a value and its interval, where the two stand in one cell.
JOINED: Final[Mapping[Kind, str]] = {"half_width": "{} ±{}", "range": "{} ({})"}
WORDS: Final = ("flag", "text")  # the kinds that a table has at the left of a cell
LONGEST: Final = 400


def text_of(column: ResultColumn, row: object) -> str:
    """The cell, on one line and harmless for a terminal; an en dash where nothing is known."""
    value = column.value(row)
    return figures.UNKNOWN if value is None or value in ("", ()) else TEXTS[column.kind](value)


def text_with_beside(columns: ResultColumns, column: ResultColumn, row: object) -> str:
    """The cell with the one that is said beside it, where the row has that."""
    beside = columns.of(column.beside) if column.beside else None
    text = text_of(column, row)
    if beside is None or not beside.is_told(row):
        return text
    return JOINED.get(beside.kind, "{}, {}").format(text, text_of(beside, row))


def heading_with_beside(columns: ResultColumns, column: ResultColumn) -> str:
    if not column.beside:
        return column.heading
    beside = columns.of(column.beside)
    return f"{column.heading} ({beside.heading})" if beside.kind == "range" else f"{column.heading} {beside.heading}"


def tone_of(column: ResultColumn, row: object) -> Tone | Literal["good"]:
    """How the cell is meant: a flag is good or bad, an unknown one dim."""
    value = column.value(row)
    if value is None or value in ("", ()):
        return "dim"
    if column.kind == "flag":
        return "good" if value else "bad"
    if column.kind == "position":
        return "warning" if isinstance(value, int) else ""
    return column.tone


def _line(value: object) -> str:
    return one_line(str(value), LONGEST)


def _lines(values: Iterable[object]) -> str:
    return one_line("; ".join(map(str, values)), LONGEST)


def _range(value: tuple[float, float]) -> str:
    return f"{figures.ratio(value[0])}–{figures.ratio(value[1])}"


def _nats_range(value: tuple[float, float | None, float | None]) -> str:
    estimate, low, high = value
    return nats(estimate) if low is None or high is None else f"{nats(estimate)} ({nats_range(low, high)})"


def _reasons(value: Mapping[str, str]) -> str:
    return _lines(f"{name}: {reason}" for name, reason in value.items())


TEXTS: Final[Mapping[Kind, Callable[[Any], str]]] = {
    "rate": figures.rate,
    "half_width": figures.rate,
    "ratio": figures.ratio,
    "range": _range,
    "duration": figures.duration,
    "bytes": figures.size,
    "share": figures.share,
    "bound": figures.bound,
    "percent": figures.percent,
    "energy": figures.joules_per_token,
    "power": figures.watts,
    "count": str,
    "position": str,
    "flag": figures.yes_no,
    "text": _line,
    "sentence": _line,
    "sentences": _lines,
    "reasons": _reasons,
    "nats": nats,
    "nats_range": _nats_range,
    "fine_ratio": figures.fine_ratio,
    "fine_share": figures.fine_share,
    "per_step": "{:.2f}".format,
    "per_second": figures.rate,
    "number": "{:.3g}".format,
}
