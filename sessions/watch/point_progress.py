"""How far each point of a load has come, method by method, as the records tell it."""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from sessions.disk.plan import Plan
from sessions.disk.point import Point
from sessions.disk.records import PointEnded, PointStarted, RequestEnded
from sessions.frames.counting import block_counts, request_counts
from sessions.frames.steady_edges import loop_edges, open_edges
from sessions.verdict.statistics import LEAST_BLOCKS, interval_from_zero, mean_interval
from sessions.watch.current_request import Flight
from sessions.watch.live import PointLive

WAITING, RUNNING = "waiting", "running"


@dataclass(slots=True)
class _Block:
    """One attempt at a point in a block: what its requests were until now, and their throughput once it is over."""

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    dues: list[int] = field(default_factory=list)
    times: array[int] = field(default_factory=lambda: array("q"))
    rates: list[float] = field(default_factory=list)  # e2e tokens/s of the requests that count
    status: str | None = None
    error: str = ""
    total: float | None = None  # tokens/s of the steady part


class PointProgress:
    """By method, place of the point and block. A block that is begun again counts from there on."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._blocks: dict[tuple[str, int], dict[int, _Block]] = {}
        self._runs: tuple[str, int, int] | None = None

    def start(self, record: PointStarted) -> None:
        self._blocks.setdefault((record.method, record.place), {})[record.block] = _Block()
        self._runs = (record.method, record.place, record.block)

    def add(self, flight: Flight, record: RequestEnded) -> None:
        """Take in a request as it ends."""
        begun = flight.begun
        block = self._blocks.get((begun.method, begun.place), {}).get(begun.block)
        if begun.warmup or block is None or block.status is not None:
            return
        due = begun.t if begun.scheduled_ns is None else begun.scheduled_ns
        block.starts.append(begun.t)
        block.dues.append(due)
        for count, _, last in flight.sequences.values():
            block.ends.append(last)
            tok_s = count / ((last - due) / 1e9) if last > due else None
            if tok_s is not None and request_counts(begun.warmup, record.finish, tok_s):
                block.rates.append(tok_s)
                block.times.extend(flight.times or ())

    def end(self, record: PointEnded) -> None:
        """The point is over in this block; one whose warm-ups failed was never begun."""
        block = self._blocks.setdefault((record.method, record.place), {}).setdefault(record.block, _Block())
        block.status, block.error = record.status, record.error
        if block_counts(record.status):
            block.total = self._throughput(record.place, block)
        block.times = array("q")  # tokens by the million
        self._runs = None

    def leave(self) -> None:
        """The block is over: what has no end by now gets none."""
        if self._runs is not None:
            method, place, block = self._runs
            self._blocks[method, place].pop(block, None)
            self._runs = None

    def judged(self, method: str) -> dict[int, float]:
        """By block what the ratio at the primary point is of: throughput, in an open loop a response's mean rate."""
        found = {}
        for number, block in self._blocks.get((method, 0), {}).items():
            if block_counts(block.status or ""):
                own = statistics.fmean(block.rates) if self._plan.primary.rate is not None and block.rates else None
                value = block.total if self._plan.primary.rate is None else own
                if value:
                    found[number] = value
        return found

    def saturated(self) -> set[int]:
        """The places of the points beyond two steps of the load, at the same lengths, neither of which gains more
        throughput than half its interval, with whichever method; of three blocks or more."""
        beyond: set[int] = set()
        for ladder in self._ladders():
            worth = [self._worth(method.name, ladder) for method in self._plan.methods]
            beyond |= {*ladder[max((number for number in worth if number is not None), default=len(ladder)) :]}
        return beyond

    def _ladders(self) -> list[list[int]]:
        """The places of points that differ in their load alone, from the least."""
        ladders: dict[Point, list[int]] = {}
        points = self._plan.points
        for place, point in enumerate(points):
            alike = replace(point, name="", batch=None, concurrency=None, rate=None, requests=0, warmup=0)
            ladders.setdefault(alike, []).append(place)
        return [sorted(places, key=lambda place: points[place].in_flight or 0) for places in ladders.values()]

    def _worth(self, method: str, ladder: Sequence[int]) -> int | None:
        """How many points of a ladder are worth measuring with a method; None where nothing is known."""
        known = [place for place in ladder if len(self._totals(method, place)) >= LEAST_BLOCKS]
        idle = 0
        for lower, upper in pairwise(known):
            before, after = self._totals(method, lower), mean_interval(self._totals(method, upper))
            gains = after is None or after.estimate - statistics.fmean(before) > after.high - after.estimate
            idle = 0 if gains else idle + 1
            if idle == 2:
                return ladder.index(upper) + 1
        return len(ladder) if known else None

    def _totals(self, method: str, place: int) -> list[float]:
        return [block.total for block in self._blocks.get((method, place), {}).values() if block.total is not None]

    def rows(self) -> Iterator[PointLive]:
        """Every point of every method, those of a point together."""
        for place, point in enumerate(self._plan.points):
            for method in self._plan.methods:
                yield self._row(method.name, place, point.name)

    def _row(self, method: str, place: int, name: str) -> PointLive:
        blocks = self._blocks.get((method, place), {})
        totals = self._totals(method, place)
        runs = self._runs is not None and self._runs[:2] == (method, place)
        last = next(reversed(blocks.values())) if blocks else None
        status = RUNNING if runs else (last.status or WAITING) if last is not None else WAITING
        return PointLive(
            point=name,
            method=method,
            status=status,
            blocks_done=sum(block.status is not None for block in blocks.values()),
            tok_s_total=statistics.fmean(totals) if totals else None,
            interval=interval_from_zero(totals),
            requests_done=sum(len(block.rates) for block in blocks.values()),
            error=last.error if last is not None else "",
        )

    def _throughput(self, place: int, block: _Block) -> float | None:
        """As in the frames: tokens that came within the steady part, ÷ its length."""
        if not block.starts:
            return None
        slots = self._plan.points[place].in_flight
        edges = open_edges(block.dues, block.ends) if slots is None else loop_edges(block.starts, block.ends, slots)
        if edges is None or edges[1] <= edges[0] or not block.times:
            return None
        import numpy as np

        begin, end = edges
        times = np.frombuffer(block.times, dtype=np.int64)
        return int(np.count_nonzero((times > begin) & (times <= end))) / ((end - begin) / 1e9)
