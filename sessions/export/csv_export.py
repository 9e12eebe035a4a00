"""Sessions and comparisons as CSV, in which no text is a formula to a spreadsheet.

Text that starts like a formula is prefixed with an apostrophe, and so is text that starts with an
apostrophe: to restore the original, remove one leading apostrophe wherever there is one. Numbers,
including negative ones, are left alone. A NUL, which ends a cell in most readers, is written as its symbol.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import polars as pl

from methods.base.home import HomeError, write_atomically
from methods.base.named_output import OutputError, write_named
from methods.base.user_path import PathError, absolute, reason
from sessions.disk.frame_schema import FrameError, read_frame
from sessions.disk.session_folder import FRAMES, SessionError, SessionFolder
from sessions.verdict.comparison import Comparison
from sessions.verdict.table_choice import ALL, TableChoice

# Full-width signs count too, where a spreadsheet is set to Japanese or Chinese.
SHIELDED: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")
NUL: Final = "\0"
NUL_SYMBOL: Final = "\N{SYMBOL FOR NULL}"
BOM: Final = "\N{BYTE ORDER MARK}"
# What a sheet of Excel and of LibreOffice holds; the first row is the heading.
SHEET_ROWS: Final = 1_048_576
CELL_CHARACTERS: Final = 32_767


class ExportError(Exception):
    """The CSV cannot be written; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class ExportedFrame:
    """A frame's file; `notice` is a sentence where a spreadsheet cannot hold all of it, otherwise empty."""

    path: Path
    notice: str


def comparison_rows(comparison: Comparison, choice: TableChoice = ALL) -> list[dict[str, Any]]:
    """The rows as plain dictionaries, as JSON has them: each column's key, in the order chosen or of declaration."""
    columns = choice.columns_of(comparison)
    return [{column.key: _plain(column.value(row)) for column in columns} for row in choice.rows_of(comparison)]


def comparison_csv(comparison: Comparison, choice: TableChoice = ALL) -> str:
    """The comparison as CSV text, a header line first; numbers as they are, None as an empty cell."""
    rows = [{key: _cell(value) for key, value in row.items()} for row in comparison_rows(comparison, choice)]
    if not rows:
        return _csv(pl.DataFrame(schema={column.key: pl.String for column in choice.columns_of(comparison)}))
    return _csv(pl.DataFrame(rows, infer_schema_length=None))


def write_comparison_csv(comparison: Comparison, path: Path, *, excel: bool = False, choice: TableChoice = ALL) -> Path:
    """Write the comparison to what the user named; the absolute path it went to. Raises ExportError.

    `excel` puts a byte order mark first, without which Excel does not read the file as UTF-8.
    """
    return _write(path, comparison_csv(comparison, choice), excel)


def keep_comparison_csv(comparison: Comparison, path: Path) -> Path:
    """Write the comparison into the home; `path`. Raises ExportError."""
    try:
        write_atomically(path, comparison_csv(comparison).encode("utf-8", errors="replace"))
    except HomeError as error:
        raise ExportError(str(error)) from None
    return path


def export_session(folder: SessionFolder, out: Path, *, excel: bool = False) -> list[ExportedFrame]:
    """A CSV file for each frame of a session, below `out`. Raises ExportError, SessionError.

    `excel` as in `write_comparison_csv`.
    """
    try:
        target = absolute(out)
        target.mkdir(parents=True, exist_ok=True)
    except PathError as error:
        raise ExportError(str(error)) from None
    except (OSError, ValueError) as error:
        said = reason(error) if isinstance(error, OSError) else "it is not a path"
        raise ExportError(f"{out} cannot be made ({said}): name another folder with --out.") from None
    written = []
    for name in FRAMES:
        try:
            frame = read_frame(folder.frame(name), name)
        except FrameError:
            raise SessionError(f"{folder.id} has no readable {name} frame: see `kasoku show {folder.id}`.") from None
        lists = [column for column, kind in frame.schema.items() if isinstance(kind, pl.List)]
        frame = frame.with_columns(_joined(column) for column in lists)
        path = _write(target / f"{name}.csv", _csv(frame), excel)
        written.append(ExportedFrame(path, _beyond_a_sheet(path.name, frame)))
    return written


def _joined(column: str) -> pl.Expr:
    """A column of lists as text; null in a list is an empty place."""
    return pl.col(column).cast(pl.List(pl.String)).list.eval(pl.element().fill_null("")).list.join("; ")


def _beyond_a_sheet(name: str, frame: pl.DataFrame) -> str:
    """A sentence on what a spreadsheet drops of this frame, or ""."""
    if len(frame) >= SHEET_ROWS:
        return (
            f"{name} has {len(frame):,} rows and a spreadsheet holds {SHEET_ROWS - 1:,} and the heading: it silently"
            " drops the others, so read the file with a program."
        )
    texts = [column for column, kind in frame.schema.items() if kind == pl.String]
    longest = frame.select(pl.max_horizontal(pl.col(texts).str.len_chars().max())).item() if texts else None
    if longest and longest > CELL_CHARACTERS:
        return (
            f"{name} has a text of {longest:,} characters and a cell of a spreadsheet holds {CELL_CHARACTERS:,}:"
            " the rest of it is cut off there, so read the file with a program."
        )
    return ""


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _cell(value: object) -> object:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _csv(frame: pl.DataFrame) -> str:
    texts = [column for column, kind in frame.schema.items() if kind == pl.String]
    frame = frame.with_columns(pl.col(column).str.replace_all(NUL, NUL_SYMBOL, literal=True) for column in texts)
    starts = [pl.col(column).str.slice(0, 1).is_in(SHIELDED) for column in texts]
    frame = frame.with_columns(
        pl.when(formula).then(pl.lit("'") + pl.col(column)).otherwise(pl.col(column)).alias(column)
        for column, formula in zip(texts, starts, strict=True)
    )
    buffer = io.StringIO()
    frame.write_csv(buffer)
    return buffer.getvalue()


def _write(path: Path, text: str, excel: bool) -> Path:
    try:
        return write_named(path, ((BOM if excel else "") + text).encode("utf-8", errors="replace"))
    except OutputError as error:
        raise ExportError(str(error)) from None
