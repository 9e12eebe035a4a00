"""The rows of the runs frame that one attempt at a block has: one for each point that it was to measure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Final

from sessions.disk.frame_schema import POINT_COLUMNS, FrameRow
from sessions.disk.plan import Plan
from sessions.disk.point import PLAIN
from sessions.disk.records import BlockEnded, BlockStarted, PointEnded, Prepared
from sessions.frames.energy_edges import EnergyEdges

OF_POINTS: Final = tuple(name for name in POINT_COLUMNS if name != "point")
UNENDED: Final = ("stopped", "Interrupted before the point ended; `kasoku resume` runs it again.")


class PointRows:
    """What was said of the points of an attempt."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._ends: dict[int, PointEnded] = {}
        self._energy: dict[int, EnergyEdges] = {}
        self._void = False

    def plan(self, record: BlockStarted | BlockEnded) -> None:
        """The points that are to be measured, said by the end of a block that was never begun."""
        self._places = self._places or list(record.points)
        self._void = isinstance(record, BlockEnded) and record.void

    def end(self, record: PointEnded) -> None:
        self._ends[record.place] = record

    def energy_at(self, place: int) -> EnergyEdges:
        """The readings of the counters at the edges of a point's timed part, for another to be added."""
        return self._energy.setdefault(place, EnergyEdges())

    def rows(self, row: FrameRow, plan: Plan, prepared: Prepared | None) -> list[FrameRow]:
        """One row per point, copied from the block's; without a load, just the block's row."""
        if not plan.has_load:
            return [row | point_columns(plan, 0, prepared)]
        return [
            row | self._own(row, place) | point_columns(plan, place, prepared)
            for place in sorted(set(self._places or range(len(plan.points))))
        ]

    def _own(self, row: FrameRow, place: int) -> FrameRow:
        energy = self._energy.get(place, EnergyEdges())
        missing = {name: reason for name, reason in json.loads(row["missing"]).items() if name != "timed_energy_j"}
        if energy.timed_j is None:
            missing["timed_energy_j"] = energy.missing()["timed_energy_j"]
        own: FrameRow = {"timed_energy_j": energy.timed_j, "missing": json.dumps(missing, ensure_ascii=False)}
        ended = self._ends.get(place)
        if ended is not None and not self._void:
            return own | {"status": ended.status, "error": ended.error}
        if row["status"] == "ok":
            return own | dict(zip(("status", "error"), UNENDED, strict=True))
        return own


def point_columns(plan: Plan, place: int, prepared: Prepared | None, prompt_tokens: int | None = None) -> FrameRow:
    """What the columns of a point hold; lengths that it leaves to the plan as they turned out."""
    point = plan.points[place] if 0 <= place < len(plan.points) else PLAIN
    said: Mapping[str, object] = asdict(point)
    row: FrameRow = {"point": point.name} | {name: said[name] for name in OF_POINTS}
    row["osl"] = point.osl or plan.sampling.max_new_tokens
    if point.isl is None:
        first: Sequence[int] = prepared.prompts[0] if prepared is not None and prepared.prompts else ()
        length = prompt_tokens or len(first) - plan.points[0].depth + point.depth
        row["isl"] = length - point.depth if length > point.depth else None
    return row
