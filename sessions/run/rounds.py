"""The rounds of a session: the blocks that are still to be run, until the ratios are known well enough."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sessions.disk.plan import Goal, Plan, PlannedBlock
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockStarted,
    GoalSet,
    Header,
    Look,
    ManyTokens,
    Note,
    PointEnded,
    PointStarted,
    RequestEnded,
    RequestStarted,
    Text,
    Tokens,
)
from sessions.frames.counting import block_counts
from sessions.run.block_sizes import BlockSizes
from sessions.verdict.block_sums import MethodFigures
from sessions.verdict.statistics import LEAST_BLOCKS, LogRatio, paired_ratio
from sessions.verdict.stopping import done, width
from sessions.watch.current_request import CurrentRequest
from sessions.watch.method_progress import MethodProgress
from sessions.watch.point_progress import PointProgress

TIME_IS_UP: Final = "The time allowed is up: no further round begins after {rounds}."
WORTHWHILE: Final = 2 / 3  # of a round: a warm-up and a response, where a block has two
FUTILE: Final = 2  # so many failed blocks of a method on end, and it takes part no more


class Rounds:
    """Feeds on the journal's records, so that `missing` can go by what the blocks until now have said."""

    def __init__(self, plan: Plan, goals: Sequence[Goal]) -> None:
        self._goal = goals[-1]
        self._extension = len(goals) - 1
        self._planned = plan.rounds_of(goals)
        self._reference = {method.name: method.reference for method in plan.methods}
        self._methods = {method.name: MethodProgress() for method in plan.methods}
        self._not_fresh = {method.name for method in plan.methods if not method.fresh}  # no interval is theirs
        self._failed: dict[str, int] = {}  # blocks on end, by method
        self._done: set[str] = set()
        self._lanes, self.first_lane = plan.lanes, plan.lane_of(goals[-1].since)  # where what is asked for begins
        self._has_load = plan.has_load
        self._requests: dict[tuple[str, int], CurrentRequest] = {}  # of the blocks at work
        self._points = PointProgress(plan) if plan.has_load else None
        self._until_saturated = plan.loads.until_saturated
        self._sizes = BlockSizes()
        self.ends_ns: int | None = None  # when measuring is over, also within a block

    @property
    def of(self) -> int:
        """How many blocks there are at most."""
        return len(self._planned) * len(self._reference)

    def open(self) -> Iterator[AnyRecord]:
        """The records of what is asked for and, in an extended session, of what was known when that was asked."""
        goal = self._goal
        yield GoalSet(
            t=time.perf_counter_ns(),
            blocks=goal.blocks,
            until=goal.until,
            at_most=goal.at_most,
            since=goal.since,
            fidelity=goal.fidelity,
            extension=self._extension,
        )
        if self._extension and goal.until is None:  # else it looks before each round
            yield Look(t=time.perf_counter_ns(), rounds=goal.since, done=[], widths=_widths(self._ratios()))

    def missing(
        self, done: Container[tuple[str, int]], append: Callable[[AnyRecord], None]
    ) -> Iterator[tuple[int, PlannedBlock]]:
        """The blocks to run that are not `done`, each with its position from 1; ends where the goal is reached.

        What is seen in between, and why it ends early, is appended to the journal.
        """
        for rounds in self.waves(done, append):
            for blocks in rounds:
                yield from blocks

    def waves(
        self, done: Container[tuple[str, int]], append: Callable[[AnyRecord], None]
    ) -> Iterator[list[Iterator[tuple[int, PlannedBlock]]]]:
        """The same by round, of which those that are measured side by side come together, each in a lane of its own."""
        begun, last = time.monotonic(), 0.0
        if self._goal.is_cut:
            self.ends_ns = time.perf_counter_ns() + int((self._goal.at_most or 0.0) * 1e9)
        for number in range(0, len(self._planned), self._lanes):
            wave = self._planned[number : number + self._lanes]
            if all((row.method, row.block) in done for blocks in wave for row in blocks):
                continue
            if not (taking := self._taking(number, append)):
                return
            missing = [
                [row for row in blocks if row.method in taking and (row.method, row.block) not in done]
                for blocks in wave
            ]
            if not any(missing):
                continue
            started = time.monotonic()
            if self._is_too_late(number, started - begun, last):
                append(Note(t=time.perf_counter_ns(), text=TIME_IS_UP.format(rounds=number)))
                return
            beyond = self._beyond(number)  # of all methods alike, or no ratio would be of all its blocks
            yield [self._sized(rows, beyond) for rows in missing if rows]
            last = time.monotonic() - started

    def _sized(self, rows: Sequence[PlannedBlock], beyond: set[int]) -> Iterator[tuple[int, PlannedBlock]]:
        """The blocks of a round, as what is known when they begin has them."""
        for row in rows:
            worthwhile = replace(row, points=[place for place in row.points if place not in beyond])
            sized = self._sizes.sized(worthwhile, enough=self._goal.until is not None)
            place = [each.method for each in self._planned[row.block]].index(row.method)
            yield row.block * len(self._reference) + place + 1, sized

    def _beyond(self, number: int) -> set[int]:
        """The points that the round of this number leaves out, as they lie beyond saturation: none in the first rounds,
        without which no method has an interval."""
        if self._points is None or not self._until_saturated or number < LEAST_BLOCKS:
            return set()
        return self._points.saturated() - {0}  # the primary point is judged

    def _is_too_late(self, number: int, elapsed_s: float, last_s: float) -> bool:
        """Whether the time allowed forbids a round that takes as long as the last one did.

        The first rounds, without which nothing can be said, need only begin in time. One that may be cut is to have
        time enough for some of it.
        """
        if self._goal.at_most is None or not last_s:
            return False
        if self._goal.is_cut:
            return elapsed_s + last_s * WORTHWHILE > self._goal.at_most
        return elapsed_s + (last_s if number >= LEAST_BLOCKS else 0.0) > self._goal.at_most

    def _taking(self, number: int, append: Callable[[AnyRecord], None]) -> Collection[str]:
        """The methods that take part in the round of this number."""
        if self._goal.until is None or number < max(LEAST_BLOCKS, self._goal.since):
            return self._methods
        look, taking = self._look(self._goal.until, number)
        append(look)
        return taking

    def feed(self, record: AnyRecord) -> None:
        self._sizes.feed(record)
        match record:
            case Header():
                self._requests.clear()
                for progress in self._methods.values():
                    progress.cut()
            case BlockStarted():
                self._progress(record.method).start(record.block)
                self._requests.pop((record.method, record.block), None)
            case RequestStarted():
                self._request_of(record).start(record)
            case Tokens():
                self._request_of(record).take(record)
            case ManyTokens():
                self._request_of(record).take_many(record)
            case Text():
                self._request_of(record).take_text(record)
            case PointStarted() if self._points is not None:
                self._points.start(record)
            case PointEnded() if self._points is not None:
                self._points.end(record)
            case RequestEnded():
                self._end_request(record)
            case BlockEnded():
                if self._points is not None:
                    self._points.leave()
                self._requests.pop((record.method, record.block), None)
                self._progress(record.method).end(record)
                failed = not block_counts(record.status)
                self._failed[record.method] = self._failed.get(record.method, 0) + 1 if failed else 0
            case _:
                pass

    def _end_request(self, record: RequestEnded) -> None:
        request = self._request_of(record)
        flight = request.flight_of(record)
        for tok_s, ttft_s, tokens in request.end(record):
            self._progress(record.method).add(record.block, tok_s, ttft_s, tokens)
        if flight is not None and self._points is not None:
            self._points.add(flight, record)

    def _request_of(self, record: RequestStarted | Tokens | ManyTokens | Text | RequestEnded) -> CurrentRequest:
        return self._requests.setdefault((record.method, record.block), CurrentRequest(times=self._has_load))

    def _progress(self, name: str) -> MethodProgress:
        return self._methods.setdefault(name, MethodProgress())

    def _look(self, until: float, rounds: int) -> tuple[Look, set[str]]:
        """What the rounds until now say, and who takes part in the next. A method that is done stays so."""
        ratios = self._ratios()
        self._done |= done(ratios, until)
        fresh = [name for name in self._methods if name not in self._not_fresh]
        judged = [name for name in fresh if self._pair(name) is not None or self._is_alone(name)]
        undecided = {name for name in judged if name not in self._done and not self._is_hopeless(name)}
        taking = undecided | {other for name in undecided if (other := self._pair(name)) is not None}
        taking |= self._not_fresh if taking else set()
        look = Look(t=time.perf_counter_ns(), rounds=rounds, done=sorted(self._done), widths=_widths(ratios))
        return look, taking

    def _is_hopeless(self, name: str) -> bool:
        """Whether more rounds would tell nothing of it, because it, or what it is compared with, keeps failing."""
        return any(self._failed.get(each, 0) >= FUTILE for each in (name, self._pair(name)) if each is not None)

    def _pair(self, name: str) -> str | None:
        """The method that this one is compared with."""
        reference = self._reference.get(name)
        return reference if reference != name and reference in self._methods else None

    def _is_alone(self, name: str) -> bool:
        """Whether a method is compared with none, and none with it: then its own mean is what is wanted."""
        return self._pair(name) is None and not any(self._pair(other) == name for other in self._methods)

    def _ratios(self) -> dict[str, LogRatio]:
        figures = {name: progress.figures() for name, progress in self._methods.items()}
        if (points := self._points) is not None:  # the primary point alone is judged
            figures = {name: replace(own, block_means=points.judged(name)) for name, own in figures.items()}
        return {name: ratio for name in figures if (ratio := self._ratio(name, figures)) is not None}

    def _ratio(self, name: str, figures: Mapping[str, MethodFigures]) -> LogRatio | None:
        if (reference := self._pair(name)) is not None:
            return figures[name].ratio_to(figures[reference])
        if not self._is_alone(name):
            return None
        means = list(figures[name].block_means.values())
        scale = math.exp(math.fsum(map(math.log, means)) / len(means)) if means else 1.0
        return paired_ratio(means, [scale] * len(means))


def _widths(ratios: Mapping[str, LogRatio]) -> dict[str, float]:
    return {name: reach for name, ratio in ratios.items() if (reach := width(ratio)) is not None}
