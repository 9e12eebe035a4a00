"""Where a block's time goes, from its beginning to the end of all its processes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from sessions.frames.counting import counted_blocks

if TYPE_CHECKING:
    import polars as pl

    from sessions.disk.frame_schema import FrameRow

START: Final = "start_s"
PHASE_COLUMNS: Final = {  # of sessions/disk/messages.py; loading is timed by the runner itself
    "import": "import_s", "warmup": "warmup_s", "timed": "timed_s", "evidence": "evidence_s", "greedy": "greedy_s",
    "fidelity": "fidelity_s", "close": "close_s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a block's time: its name, and the columns of the runs frame whose seconds it has, `less` others'."""

    name: str
    columns: tuple[str, ...]
    less: tuple[str, ...] = ()


SEGMENTS: Final = (
    Segment("interpreter", (START,)),
    Segment("imports", ("import_s",)),
    Segment("loading", ("load_s",), less=("load_compile_s",)),
    Segment("compiling", ("load_compile_s", "warmup_compile_s")),
    Segment("warm-up", ("warmup_s",), less=("warmup_compile_s",)),
    Segment("timed", ("timed_s",)),
    Segment("evidence", ("evidence_s",)),
    Segment("greedy pass", ("greedy_s",)),
    Segment("fidelity", ("fidelity_s",)),
    Segment("close", ("close_s",)),
)
TIMED: Final = "timed"


def phase_columns(phases: Mapping[str, int], started_ns: int, ended_ns: int | None) -> FrameRow:
    """Seconds by column: of the phases, which begin at these moments, and the timed part's share of the whole block.

    A phase lasts until the next one begins, the last of all until the block ends.
    """
    moments = [("", started_ns), *sorted(phases.items(), key=lambda entered: entered[1])]
    if ended_ns is not None and moments[-1][0] == "close":
        moments.append(("end", ended_ns))
    row: FrameRow = {}
    for (phase, begin), (_, end) in pairwise(moments):
        if (column := START if not phase else PHASE_COLUMNS.get(phase)) is not None:
            row[column] = (end - begin) / 1e9
    if ended_ns is not None and ended_ns > started_ns and "timed_s" in row:
        row["timed_share"] = row["timed_s"] / ((ended_ns - started_ns) / 1e9)
    return row


def compile_columns(evidence: object) -> FrameRow:
    """Seconds by column that went into compiling, as a block's evidence (JSON text) has them under `compile_s`."""
    try:
        said = json.loads(evidence)["compile_s"] if isinstance(evidence, str) else {}
        return {f"{phase}_compile_s": seconds for phase in ("load", "warmup") if (seconds := _seconds(said.get(phase)))}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def method_segments(runs: pl.DataFrame) -> dict[str, list[tuple[Segment, float]]]:
    """By method, in the frame's order: the segments of a block with their seconds, means over the blocks that count.

    Sessions of an earlier version do not know how long the phases took: their methods are left out.
    """
    import polars as pl

    columns = sorted({name for segment in SEGMENTS for name in (*segment.columns, *segment.less)})
    means = (
        counted_blocks(runs)
        .filter(pl.col(START).is_not_null())
        .group_by("method", maintain_order=True)
        .agg(pl.col(columns).fill_null(0.0).mean())
    )
    return {
        row["method"]: [(segment, seconds) for segment in SEGMENTS if (seconds := _of(segment, row)) > 0]
        for row in means.iter_rows(named=True)
    }


def _of(segment: Segment, row: FrameRow) -> float:
    seconds: float = sum(row[name] for name in segment.columns) - sum(row[name] for name in segment.less)
    return seconds
