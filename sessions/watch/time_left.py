"""How long a session will still take, from the blocks that are over and the pace of the present one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sessions.disk.plan import Goal, Plan
from sessions.disk.records import BlockEnded, BlockPhase, BlockStarted
from sessions.frames.counting import block_counts
from sessions.verdict.statistics import LEAST_BLOCKS


@dataclass(slots=True)
class _Present:
    """The block that runs now."""

    method: str
    block: int
    started_ns: int
    timed_ns: int | None = None
    scoring_ns: int | None = None
    scored_s: float = 0.0


class TimeLeft:
    """Takes the records of blocks in."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._present: dict[tuple[str, int], _Present] = {}  # one in each lane
        self._over: dict[tuple[str, int], bool] = {}  # whether it counts
        self._durations: dict[str, list[float]] = {}  # of whole blocks, but for the scoring in them
        self._scored: dict[str, float] = {}  # what scoring a method took, which is done once
        self._is_scored = False
        self._goals: Sequence[Goal] = (plan.goal,)
        self._began_ns: int | None = None  # the first block of this stretch

    def set_goals(self, goals: Sequence[Goal]) -> None:
        """How much is measured from here on: by the last of these, which extends those before it."""
        self._goals, self._began_ns = tuple(goals), None

    def expect_scores(self) -> None:
        """Methods are scored from here on, each in the first of its blocks that counts."""
        self._is_scored = True

    def resume(self) -> None:
        """Another conductor begins: it runs again what does not count."""
        self._present.clear()
        self._over = {place: counts for place, counts in self._over.items() if counts}

    def start_block(self, record: BlockStarted) -> None:
        self._present[record.method, record.block] = _Present(record.method, record.block, record.t)
        self._began_ns = record.t if self._began_ns is None else self._began_ns
        self._over.pop((record.method, record.block), None)

    def enter(self, record: BlockPhase) -> None:
        present = self._present.get((record.method, record.block))
        if present is None:
            return
        if record.phase == "timed":
            present.timed_ns = record.t
        elif record.phase == "fidelity":
            present.scoring_ns = record.t
        elif present.scoring_ns is not None:
            present.scored_s = (record.t - present.scoring_ns) / 1e9

    def end_block(self, record: BlockEnded) -> None:
        place = (record.method, record.block)
        self._over[place] = block_counts(record.status)
        present = self._present.pop(place, None)
        if present is not None and self._over[place]:  # one that failed says nothing about the others
            whole_s = (record.t - present.started_ns) / 1e9
            self._durations.setdefault(record.method, []).append(whole_s - present.scored_s)
            if present.scoring_ns is not None:
                self._scored[record.method] = present.scored_s

    def seconds(self, now_ns: int, requests_done: Callable[[str, int], int]) -> float | None:
        """Estimated time for the missing blocks, each as long as those of its method (or the mean of all), of the lane
        that takes the longest.

        `requests_done` are the timed requests of a present block. None while nothing is known: no block is over, a
        present one takes longer than it should and is not timed, or methods are to be scored and none was so far.
        """
        known = [value for values in self._durations.values() for value in values]
        left = [0.0] * self._plan.lanes
        unscored = self._unscored()
        for block in self._plan.order(self._goals):
            if (block.method, block.block) in self._over:
                continue
            durations = self._durations.get(block.method) or known
            expected = statistics.fmean(durations) if durations else None
            present = self._present.get((block.method, block.block))
            if present is not None:
                done = requests_done(block.method, block.block)
                expected = _present_s(present, now_ns, done, len(block.requests), expected)
            if block.method in unscored:
                unscored.remove(block.method)
                scoring = self._scoring_s(present, now_ns)
                # what else there is of a block that is being scored is over but for a moment
                expected = scoring if present and present.scoring_ns else _sum(expected, scoring)
            if expected is None:
                return None
            left[self._plan.lane_of(block.block)] += expected
        return max(left) or None

    def _unscored(self) -> set[str]:
        return {method.name for method in self._plan.methods if self._is_scored} - self._scored.keys()

    def _scoring_s(self, present: _Present | None, now_ns: int) -> float | None:
        """What is left of scoring a method that was not scored yet, by what it took with others."""
        if not self._scored:
            return None
        over = (now_ns - present.scoring_ns) / 1e9 if present is not None and present.scoring_ns is not None else 0.0
        left = statistics.fmean(self._scored.values()) - over
        return left if left > 0 else None

    def range_s(self, now_ns: int, rounds: Mapping[str, tuple[int, int]]) -> tuple[float | None, float | None]:
        """The least and the most estimated time, where each method takes (least, most) further rounds, the present
        block's included. Once the first rounds are over, which only have to begin in time, the time that the goal
        allows is the most. None where nothing is known, or methods are to be scored and none was so far.
        """
        known = [value for values in self._durations.values() for value in values]
        unscored = {name for name in self._unscored() if rounds.get(name, (0, 0))[1]}
        if not known or (unscored and not self._scored):
            return None, None
        allowed = None
        rounds_over = max(map(len, self._durations.values()))
        if (at_most := self._goals[-1].at_most) is not None and self._began_ns and rounds_over >= LEAST_BLOCKS:
            allowed = max(0.0, at_most - (now_ns - self._began_ns) / 1e9)
        mean = statistics.fmean(known)
        each = {name: statistics.fmean(self._durations.get(name) or [mean]) for name in rounds}
        scoring = dict.fromkeys(unscored, statistics.fmean(self._scored.values()) if self._scored else 0.0)
        least, most = (sum(each[name] * rounds[name][end] for name in rounds) for end in (0, 1))
        least, most = (bound + sum(scoring.values()) for bound in (least, most))
        for present in self._present.values():
            over = (now_ns - present.started_ns) / 1e9
            whole = each.get(present.method, mean) + scoring.get(present.method, 0.0)
            least, most = (max(0.0, bound - min(over, whole)) for bound in (least, most))
        least, most = least / self._plan.lanes, most / self._plan.lanes
        if allowed is not None:
            least, most = min(least, allowed), min(most, allowed)
        return least, most


def _sum(first: float | None, then: float | None) -> float | None:
    return None if first is None or then is None else first + then


def _present_s(present: _Present, now_ns: int, done: int, requests: int, expected: float | None) -> float | None:
    """Of the present block: at the pace of its own timed requests, else what is left of the time expected."""
    if done and present.timed_ns is not None:
        return (now_ns - present.timed_ns) / 1e9 / done * max(0, requests - done)
    left = 0.0 if expected is None else expected - (now_ns - present.started_ns) / 1e9
    return left if left > 0 else None
