"""Sessions and comparisons as CSV, in which no text is a formula to a spreadsheet.

Text that starts like a formula is prefixed with an apostrophe, and so is text that starts with an
apostrophe: to restore the original, remove one leading apostrophe wherever there is one. Numbers,
including negative ones, are left alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import polars as pl

from methods.base.home import HomeError, named_path, write_atomically
from sessions.disk.frame_schema import FrameError, read_frame
from sessions.disk.session_folder import FRAMES, SessionError, SessionFolder
from sessions.verdict.comparison import Comparison

# Full-width signs count too, where a spreadsheet is set to Japanese or Chinese.
SHIELDED: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


class ExportError(Exception):
    """The CSV cannot be written; the message is a sentence."""


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows as plain dictionaries, as JSON has them: every column's key, in the order of declaration."""
    return [{column.key: _plain(column.value(row)) for column in comparison.columns.data} for row in comparison.rows]


def comparison_csv(comparison: Comparison) -> str:
    """The comparison as CSV text, a header line first; numbers as they are, None as an empty cell."""
    rows = [{key: _cell(value) for key, value in row.items()} for row in comparison_rows(comparison)]
    if not rows:
        return _csv(pl.DataFrame(schema={column.key: pl.String for column in comparison.columns.data}))
    return _csv(pl.DataFrame(rows, infer_schema_length=None))


def write_comparison_csv(comparison: Comparison, path: Path, *, private: bool = False) -> Path:
    """Write the comparison; the absolute path it went to. `private` is for the home. Raises ExportError."""
    target = named_path(path).absolute()
    _write(target, comparison_csv(comparison), private)
    return target


def export_session(folder: SessionFolder, out: Path) -> list[Path]:
    """runs.csv, requests.csv, tokens.csv and telemetry.csv of a session below `out`; the paths. Raises ExportError."""
    target = named_path(out).absolute()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExportError(f"{target} cannot be made ({error.strerror}): name another folder with --out.") from None
    written = []
    for name in FRAMES:
        try:
            frame = read_frame(folder.frame(name), name)
        except FrameError:
            raise SessionError(f"{folder.id} has no readable {name} frame: see `kasoku show {folder.id}`.") from None
        lists = [column for column, kind in frame.schema.items() if kind == pl.List(pl.String)]
        _write(target / f"{name}.csv", _csv(frame.with_columns(pl.col(column).list.join("; ") for column in lists)))
        written.append(target / f"{name}.csv")
    return written


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
    starts = [pl.col(column).str.slice(0, 1).is_in(SHIELDED) for column in texts]
    frame = frame.with_columns(
        pl.when(formula).then(pl.lit("'") + pl.col(column)).otherwise(pl.col(column)).alias(column)
        for column, formula in zip(texts, starts, strict=True)
    )
    buffer = io.StringIO()
    frame.write_csv(buffer)
    return buffer.getvalue()


def _write(path: Path, text: str, private: bool = False) -> None:
    try:
        write_atomically(path, text.encode("utf-8", errors="replace"), private=private)
    except HomeError:
        raise ExportError(f"{path} cannot be written: name a file in an existing folder of yours.") from None
