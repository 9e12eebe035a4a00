"""Which blocks a session still runs, by what its blocks until now have said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from sessions.disk.loads import Loads
from sessions.disk.plan import Goal, Plan, PlannedMethod
from sessions.disk.point import Point
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockStarted,
    Look,
    Note,
    PointEnded,
    PointStarted,
    RequestEnded,
    RequestStarted,
    Tokens,
)
from sessions.run.rounds import Rounds
from sessions.verdict.stopping import LEAST_FOR_WIDTH

SECOND = 1_000_000_000
STEADY = (1.0, 1.001, 0.999, 1.0005)
WILD = (1.0, 0.7, 1.4, 0.8, 1.25)


def plan(*methods: tuple[str, str | None], blocks: int = 12, until: float | None = 0.05) -> Plan:
    rows = [PlannedMethod(name=name, engine="e", environment="t", reference=reference) for name, reference in methods]
    return Plan(methods=rows, blocks=blocks, requests=blocks, until=until, seed=3)


def block(method: str, number: int, tok_s: float, status: str = "ok") -> Iterator[AnyRecord]:
    """The records of a block with one request of so many tokens/s."""
    yield BlockStarted(t=0, method=method, block=number, position=1, of=1)
    if status == "ok":
        end = int(100 / tok_s * SECOND)
        yield RequestStarted(t=0, method=method, block=number, request=number)
        times = [1, end]
        yield Tokens(t=end, method=method, block=number, request=number, index=0, times=times, ids=[1, 2])
        yield RequestEnded(t=end, method=method, block=number, request=number, finish="length", output_tokens=2)
    yield BlockEnded(t=1, method=method, block=number, status=status)


class Session:
    """Carries the blocks out that its rounds name; `rates` gives a method's tokens/s in a round, None a failure."""

    def __init__(self, planned: Plan, rates: dict[str, tuple[float | None, ...]], goal: Goal | None = None) -> None:
        self.rounds = Rounds(planned, [goal or planned.goal])
        self.rates, self.journal = rates, list[AnyRecord]()
        self.done = set[tuple[str, int]]()

    def run(self) -> dict[str, int]:
        """How many blocks each method came to have."""
        for _, row in self.rounds.missing(self.done, self.journal.append):
            rate = self.rates[row.method][row.block % len(self.rates[row.method])]
            for record in block(row.method, row.block, rate or 1.0, "ok" if rate else "failed"):
                self.rounds.feed(record)
            if rate:
                self.done.add((row.method, row.block))
        return {name: sum(method == name for method, _ in self.done) for name in self.rates}

    def looks(self) -> list[Look]:
        return [record for record in self.journal if isinstance(record, Look)]


def test_a_fixed_number_of_blocks_is_run_whatever_they_say() -> None:
    session = Session(plan(("base", None), ("fast", "base"), blocks=5, until=None), {"base": STEADY, "fast": (9.0,)})
    assert session.run() == {"base": 5, "fast": 5}
    assert session.journal == []


def test_rounds_end_when_every_ratio_is_known_well_enough() -> None:
    session = Session(plan(("base", None), ("alike", "base")), {"base": STEADY, "alike": STEADY[::-1]})
    assert session.run() == {"base": LEAST_FOR_WIDTH, "alike": LEAST_FOR_WIDTH}
    look = session.looks()[-1]
    assert look.done == ["alike"]
    assert look.widths["alike"] <= 0.05


def test_a_method_that_is_decided_takes_no_more_rounds_and_its_reference_goes_on_for_the_others() -> None:
    methods = ("base", None), ("far", "base"), ("wild", "base")
    session = Session(plan(*methods), {"base": STEADY, "far": (9.0, 9.01, 8.99), "wild": WILD})
    assert session.run() == {"base": 12, "far": 3, "wild": 12}
    assert session.looks()[0].done == ["far"]
    assert [look.rounds for look in session.looks()] == list(range(3, 12))


def test_a_method_that_keeps_failing_holds_nothing_up() -> None:
    methods = ("base", None), ("broken", "base"), ("alike", "base")
    session = Session(plan(*methods), {"base": STEADY, "broken": (None,), "alike": STEADY})
    assert session.run() == {"base": LEAST_FOR_WIDTH, "broken": 0, "alike": LEAST_FOR_WIDTH}


def test_a_method_without_a_reference_is_measured_until_its_own_mean_is_known() -> None:
    assert Session(plan(("alone", None)), {"alone": STEADY}).run() == {"alone": LEAST_FOR_WIDTH}
    assert Session(plan(("alone", None)), {"alone": WILD}).run() == {"alone": 12}


@pytest.mark.parametrize(
    ("at_most", "rounds"),
    [(90.0, 2), (100.0, 3), (190.0, 4), (200.0, 5)],
    ids=["not even three begin in time", "the third begins in time", "the fifth would end too late", "it would not"],
)
def test_rounds_that_would_end_too_late_are_not_begun(
    monkeypatch: pytest.MonkeyPatch, at_most: float, rounds: int
) -> None:
    clock = iter(range(0, 10_000, 20))  # each look at it 20 s later: a round takes that long
    monkeypatch.setattr("sessions.run.rounds.time.monotonic", lambda: float(next(clock)))
    planned = plan(("base", None), ("wild", "base"))
    session = Session(planned, {"base": STEADY, "wild": WILD}, Goal(blocks=12, until=0.05, at_most=at_most))
    assert session.run() == {"base": rounds, "wild": rounds}
    (note,) = [record for record in session.journal if isinstance(record, Note)]
    assert note.text == f"The time allowed is up: no further round begins after {rounds}."


@pytest.mark.parametrize(
    ("at_most", "rounds"),
    [(70.0, 1), (110.0, 2), (115.0, 3)],
    ids=["the second could not come to a response", "the third could not", "the third could"],
)
def test_time_alone_ends_rounds_of_a_server_that_runs_already(
    monkeypatch: pytest.MonkeyPatch, at_most: float, rounds: int
) -> None:
    clock = iter(range(0, 10_000, 20))
    monkeypatch.setattr("sessions.run.rounds.time.monotonic", lambda: float(next(clock)))
    session = Session(plan(("served", None), until=None), {"served": STEADY}, Goal(blocks=12, at_most=at_most))
    unset, before = session.rounds.ends_ns, time.perf_counter_ns()
    assert unset is None, "not before it measures"
    assert session.run() == {"served": rounds}
    assert session.rounds.ends_ns is not None
    assert session.rounds.ends_ns >= before + at_most * 1e9


def test_a_stricter_goal_takes_up_the_methods_that_were_done_before_in_rounds_of_its_own() -> None:
    planned = plan(("base", None), ("near", "base"), ("wild", "base"))
    near = (1.0, 1.01, 0.99, 1.012, 0.988)
    session = Session(planned, {"base": STEADY, "near": near, "wild": WILD})
    before = session.run()
    assert before["near"] < before["wild"] == 12
    session.rounds = stricter = Rounds(planned, [planned.goal, Goal(blocks=14, until=0.001, since=12)])
    for method, number in sorted(session.done, key=lambda place: place[1]):
        rates = session.rates[method]
        for record in block(method, number, rates[number % len(rates)] or 1.0):
            stricter.feed(record)
    assert session.run() == {"base": 14, "near": before["near"] + 2, "wild": 14}
    assert {number for method, number in session.done if method == "near" and number >= before["near"]} == {12, 13}


def load_block(method: str, number: int, rates: tuple[float, ...], places: list[int]) -> Iterator[AnyRecord]:
    """The records of a block whose points have 1, 2, 4 … requests at once, of so many tokens/s in all."""
    at: dict[str, Any] = {"method": method, "block": number}
    yield BlockStarted(t=0, position=1, of=1, points=places, **at)
    for place in places:
        begun = place * 1000 * SECOND
        numbers = range(2**place - 1, 2 ** (place + 1) - 1)
        end = begun + int(len(numbers) * 2 / rates[place] * SECOND)
        yield PointStarted(t=begun, place=place, **at)
        for request in numbers:
            yield RequestStarted(t=begun, request=request, place=place, **at)
        for request in numbers:
            yield Tokens(t=end, request=request, index=0, times=[begun + 1, end], ids=[1, 2], **at)
            yield RequestEnded(t=end, request=request, finish="length", output_tokens=2, **at)
        yield PointEnded(t=end, place=place, status="ok", **at)
    yield BlockEnded(t=1, status="ok", **at)


def load_points(count: int) -> list[Point]:
    return [Point(name=f"c{2**place}", concurrency=2**place, requests=2**place) for place in range(count)]


@pytest.mark.parametrize(
    ("primary", "other", "rounds"), [(STEADY, WILD, LEAST_FOR_WIDTH), (WILD, STEADY, 12)], ids=["known", "unknown"]
)
def test_under_load_the_primary_point_alone_is_looked_at(
    primary: tuple[float, ...], other: tuple[float, ...], rounds: int
) -> None:
    planned = replace(plan(("base", None), ("alike", "base")), points=load_points(2))
    looking, done = Rounds(planned, [planned.goal]), set[tuple[str, int]]()
    for _, row in looking.missing(done, lambda _: None):
        rates = (1.0, 1.0)
        if row.method == "alike":
            rates = (primary[row.block % len(primary)], other[row.block % len(other)])
        for record in load_block(row.method, row.block, rates, row.points):
            looking.feed(record)
        done.add((row.method, row.block))
    assert len(done) == 2 * rounds


@pytest.mark.parametrize(
    ("base", "fast", "left"),
    [
        ((100.0, 190.0, 195.0, 196.0, 197.0), (100.0, 190.0, 195.0, 196.0, 197.0), 4),  # c2 to c4 and c8 gain nothing
        ((100.0, 190.0, 195.0, 196.0, 197.0), (100.0, 190.0, 300.0, 301.0, 302.0), 5),  # one of them gains up to c4
        ((100.0, 190.0, 195.0, 290.0, 295.0), (100.0, 101.0, 102.0, 103.0, 104.0), 5),  # not twice on end
    ],
)
def test_points_beyond_saturation_are_left_out_after_three_rounds(
    base: tuple[float, ...], fast: tuple[float, ...], left: int
) -> None:
    planned = replace(
        plan(("base", None), ("fast", "base"), blocks=5, until=None),
        points=load_points(5),
        loads=Loads(until_saturated=True),
    )
    looking, measured, by_both = Rounds(planned, [planned.goal]), dict[int, set[int]](), dict[int, int]()
    for _, row in looking.missing(set(), lambda _: None):
        spread = (1.0, 1.05, 0.95)[row.block % 3]
        rates = tuple(spread * rate for rate in (base if row.method == "base" else fast))
        measured.setdefault(row.block, set()).update(row.points)
        by_both[row.block] = by_both.get(row.block, 0) + len(row.points)
        for record in load_block(row.method, row.block, rates, row.points):
            looking.feed(record)
    assert [len(measured[number]) for number in range(5)] == [5, 5, 5, left, left]
    assert measured[4] == set(range(left))
    assert [by_both[number] for number in range(5)] == [10, 10, 10, 2 * left, 2 * left]
