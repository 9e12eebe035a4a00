"""Sessions and comparisons as CSV, in which no text is a formula to a spreadsheet.

A text that begins with what begins a formula gets an apostrophe in front, and so does one that begins with an
apostrophe: to have the texts back as they were, take one apostrophe away wherever a text begins with it. Numbers,
negative ones too, stay as they are.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import polars as pl

from methods.base.home import HomeError, named_path, write_atomically
from sessions.disk.frame_schema import FrameError, read_frame
from sessions.disk.session_folder import FRAMES, SessionError, SessionFolder
from sessions.verdict.comparison import Comparison

COLUMNS: Final = (
    "session",
    "method",
    "reference",
    "requests",
    "blocks",
    "tok_s_mean",
    "tok_s_median",
    "tok_s_sd",
    "tok_s_low",
    "tok_s_high",
    "ratio",
    "ratio_low",
    "ratio_high",
    "verdict",
    "ttft_s_median",
    "itl_s_p50",
    "itl_s_p99",
    "peak_vram_bytes",
    "energy_j_per_token",
    "mbu",
    "first_difference",
    "in_effect",
    "flags",
)
# Full-width signs count too, where a spreadsheet is set to Japanese or Chinese.
SHIELDED: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'")


class ExportError(Exception):
    """The CSV cannot be written; the message is a sentence."""


def comparison_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The rows as plain dictionaries: the contract's columns first, in their order, then the others."""
    rows = []
    for row in comparison.rows:
        cells = asdict(row)
        cells |= {"flags": list(row.flags), "missing": dict(row.missing)}
        rows.append({name: cells.pop(name) for name in COLUMNS} | cells)
    return rows


def comparison_csv(comparison: Comparison) -> str:
    """The comparison as CSV text, a header line first; numbers as they are, None as an empty cell."""
    rows = comparison_rows(comparison)
    for row in rows:
        row["flags"] = "; ".join(row["flags"])
        row["missing"] = json.dumps(row["missing"], ensure_ascii=False)
    frame = (
        pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
    )
    return _csv(frame)


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
            raise SessionError(
                f"{folder.id} has no readable frame of its {name}: `kasoku show {folder.id}` says more."
            ) from None
        lists = [column for column, kind in frame.schema.items() if kind == pl.List(pl.String)]
        _write(target / f"{name}.csv", _csv(frame.with_columns(pl.col(column).list.join("; ") for column in lists)))
        written.append(target / f"{name}.csv")
    return written


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
        raise ExportError(f"{path} cannot be written: name a file in a folder that is there and yours.") from None
