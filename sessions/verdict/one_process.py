"""Servers that Kasoku did not start: one process for all blocks, with a mean and a spread, but no interval.

An interval over blocks predicts another process, and a server that was already running has no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Final

from sessions.disk.session_folder import SessionFile
from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.verdicts import percent

ONE_PROCESS: Final = "no verdict: a server that ran already is one process, and the figures hold for it alone"


def not_fresh(files: Mapping[str, SessionFile]) -> set[tuple[str, str]]:
    """The sessions' methods whose blocks are not processes of their own."""
    methods = ((session, method) for session, file in files.items() for method in file.plan.methods)
    return {(session, method.name) for session, method in methods if not method.fresh}


def of_one_process(row: ComparisonRow) -> ComparisonRow:
    """The row without intervals over its blocks."""
    bounds = [each.name for each in fields(row) if each.name.endswith(("_low", "_high"))]
    nothing: dict[str, Any] = dict.fromkeys(bounds)
    missing = dict.fromkeys([*(name for name in bounds if getattr(row, name) is not None), "ratio"], ONE_PROCESS)
    return replace(row, **nothing, missing={**row.missing, **missing})


def in_plain_words(row: ComparisonRow, file: SessionFile) -> str:
    """What the server gives whoever asks it for one response at a time; empty where nothing was measured."""
    if row.tok_s_mean is None:
        return ""
    options = file.plan.method(row.method).options
    said = f"{options.get('url')} gives one client {row.tok_s_mean:.1f} tokens/s of {options.get('model')}"
    if row.ttft_s_median is not None:
        said += f", the first after {row.ttft_s_median * 1000:.0f} ms"
    if row.tok_s_sd is not None:
        said += f"; from request to request that varies by {percent(row.tok_s_sd / row.tok_s_mean)}"
    return f"{said}. This holds for the process that ran, and not for another start of it."
