"""Sessions under load written for tests of the screens: closed loops whose throughput is scripted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.point import Point
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    EvidenceTaken,
    ManyTokens,
    PointEnded,
    PointStarted,
    RequestEnded,
    RequestStarted,
    RequestTokens,
)
from tests.tui.journals import MS, Script, make_plan

POINTS = tuple(Point(name=f"c{number}", concurrency=number, requests=4 * number, warmup=1) for number in (1, 2, 4, 8))
FLUSH_NS = 50 * MS


def load_plan(methods: Sequence[str] = ("baseline", "vllm"), points: Sequence[Point] = POINTS, blocks: int = 3) -> Plan:
    """A plan whose methods all refer to the first, at points of a closed loop."""
    return replace(make_plan(tuple(methods), blocks=blocks, tokens=24), points=list(points))


class LoadScript(Script):
    """As Script, with the points of its plan: `totals` are tokens/s of a method with one and with very many in flight;
    `oom` are the (method, point) that run out of memory. Without its end it stops in the middle of its last point."""

    def __init__(
        self,
        plan: Plan,
        session: str,
        *,
        totals: Mapping[str, tuple[float, float]] | None = None,
        oom: Sequence[tuple[str, str]] = (),
        **script: Any,
    ) -> None:
        super().__init__(plan, session, **script)
        self._totals = totals or {"baseline": (100.0, 500.0), "vllm": (250.0, 2400.0)}
        self._oom = frozenset(oom)

    def _block(self, method: str, block: int, requests: list[int], position: int, whole: bool) -> Iterator[AnyRecord]:
        planned = next(row for row in self.plan.order() if (row.method, row.block) == (method, block))
        at: dict[str, Any] = {"method": method, "block": block}
        yield BlockStarted(t=self.now, position=position, of=len(self.plan.order()), points=planned.points, **at)
        for phase, spent in (("import", 300), ("load", 700), ("warmup", 10), ("timed", 10)):
            yield BlockPhase(t=self.now, phase=phase, **at)
            yield from self._pass(spent * MS, 0.3)
        parts = self.plan.parts(planned)
        for part in parts:
            point = self.plan.points[part.place]
            if (method, point.name) in self._oom:
                yield PointEnded(t=self.now, place=part.place, status="oom", error="CUDA out of memory", **at)
                continue
            yield PointStarted(t=self.now, place=part.place, **at)
            half = not whole and part is parts[-1]
            yield from self._loop(planned, part.place, point, part.timed, half)
            if half:
                return
            yield PointEnded(t=self.now, place=part.place, status="ok", **at)
        yield BlockPhase(t=self.now, phase="evidence", **at)
        yield EvidenceTaken(t=self.now, evidence={}, in_effect=True, reason="it was", **at)
        yield BlockEnded(t=self.now, status="ok", **at)

    def _loop(
        self, planned: PlannedBlock, place: int, point: Point, numbers: Sequence[int], half: bool
    ) -> Iterator[AnyRecord]:
        """A closed loop; a slot's next request begins 100 µs after its last ends. `half` stops in the middle."""
        at: dict[str, Any] = {"method": planned.method, "block": planned.block}
        slots = point.in_flight or 1
        alone, many = self._totals[planned.method]
        total = alone * slots / (1 + (slots - 1) * alone / many) * self._random.uniform(0.98, 1.02)
        gap, count = int(1e9 * slots / total), self.plan.sampling.max_new_tokens
        waiting = list(numbers)
        begun = self.now
        starts = [(begun + slot * gap // slots, waiting.pop(0)) for slot in range(min(slots, len(waiting)))]
        events: list[tuple[int, int, int]] = []  # when, number, index; -1 begins, `count` ends
        while starts:
            start, number = starts.pop(0)
            events += [(start, number, -1), *((start + gap * (place + 2), number, place) for place in range(count))]
            events.append((start + gap * (count + 1) + 10_000, number, count))
            if waiting:
                starts.append((start + gap * (count + 1) + 110_000, waiting.pop(0)))
                starts.sort()
        events.sort()
        events = events[: len(events) // 2] if half else events
        held: dict[int, RequestTokens] = {}
        flushed = begun
        for t, number, index in events:
            if held and (t - flushed > FLUSH_NS or index in (-1, count)):
                yield ManyTokens(t=self.now, tokens=list(held.values()), **at)
                held, flushed = {}, t
            yield from self._pass(t - self.now, 1.0)
            if index == -1:
                yield RequestStarted(t=t, request=number, prompt_tokens=4, place=place, **at)
            elif index == count:
                yield RequestEnded(t=t, request=number, finish="length", output_tokens=count, **at)
            else:
                one = held.setdefault(number, RequestTokens(request=number, index=index, times=[], ids=[]))
                one.times.append(t)
                one.ids.append(self.ids[index % len(self.ids)])
        if held:
            yield ManyTokens(t=self.now, tokens=list(held.values()), **at)
