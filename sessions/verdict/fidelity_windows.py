"""The scored windows of the fidelity frame, by method and path: what the figures are computed from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from sessions.disk.frame_schema import FrameRow
from sessions.verdict.fidelity_figures import PATHS, Figures, Path, Window

COLUMNS: Final = (
    "method", "block", "attempt", "path", "window", "stratum", "tokens", "nll", "nll_reference", "top1_equal",
    "top1_equal_clear", "clear_tokens", "kl", "kl_bound", "worst", "non_finite", "nll_each", "nll_reference_each",
    "missing",
)  # fmt: skip
NO_REASON: Final = "no scores were recorded"


@dataclass(frozen=True, slots=True)
class Scored:
    """A method on one path: its figures, or None for the `reason`, which also says why some windows are missing."""

    figures: Figures | None = None
    reason: str = ""


def by_method(rows: pl.DataFrame) -> dict[tuple[str, str], dict[Path, Scored]]:
    """By session and method, in the order of their first rows."""
    found: dict[tuple[str, str], list[FrameRow]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault((row["session"], row["method"]), []).append(row)
    return {key: by_path(own) for key, own in found.items()}


def by_path(rows: Iterable[FrameRow]) -> dict[Path, Scored]:
    """What a method's rows of the fidelity frame hold, those of the latest block that has scores; paths without a row
    are left out."""
    of: dict[Path, list[FrameRow]] = {}
    for row in rows:
        if row["path"] in PATHS:
            of.setdefault(row["path"], []).append(row)
    return {path: _scored(own) for path, own in of.items()}


def _scored(rows: list[FrameRow]) -> Scored:
    compared = [row for row in rows if _is_whole(row)]
    if not compared:
        return Scored(reason=next(filter(None, map(_reason, rows)), NO_REASON))
    block = max((row["block"], row["attempt"]) for row in compared)
    own = [row for row in rows if (row["block"], row["attempt"]) == block]
    windows = {row["window"]: _window(row) for row in own if _is_whole(row)}
    left_out = next(filter(None, (_reason(row) for row in own if not _is_whole(row))), "")
    return Scored(Figures(tuple(windows[number] for number in sorted(windows))), left_out)


def _is_whole(row: FrameRow) -> bool:
    """Whether the row is a window with the reference's scores beside it."""
    needed = ("window", "nll_reference", "top1_equal", "top1_equal_clear", "clear_tokens")
    return bool(row["tokens"]) and all(row[name] is not None for name in needed)


def _window(row: FrameRow) -> Window:
    pairs = zip(row["nll_each"] or (), row["nll_reference_each"] or (), strict=False)
    return Window(
        number=row["window"],
        stratum=row["stratum"] or "",
        tokens=row["tokens"],
        nll=math.nan if row["nll"] is None else row["nll"],
        nll_reference=row["nll_reference"],
        equal=row["top1_equal"],
        equal_clear=row["top1_equal_clear"],
        clear=row["clear_tokens"],
        kl=row["kl"],
        kl_bound=row["kl_bound"],
        worst=row["worst"],
        non_finite=row["non_finite"] or (0 if row["nll"] is not None and math.isfinite(row["nll"]) else 1),
        differences=[own - other for own, other in pairs if own is not None and other is not None],
    )


def _reason(row: FrameRow) -> str:
    try:
        told = json.loads(row["missing"] or "{}")
    except ValueError:
        return ""
    if not isinstance(told, dict):
        return ""
    return next((str(told[name]) for name in ("nll", "nll_reference") if told.get(name)), "")
