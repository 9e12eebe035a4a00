"""What a viewer is told of a running session, from the journal's records alone: the time that is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    ReferencePath,
    ReferenceScored,
    RequestEnded,
    RequestStarted,
    Tokens,
    Window,
)
from sessions.watch.reducer import LiveReducer

SECOND = 10**9
METHODS = [PlannedMethod(name=name, engine="e", environment="plain", reference=None) for name in ("one", "two")]


def reducer(blocks: int = 1, until: float | None = None) -> LiveReducer:
    """A session of two methods, four timed requests a block."""
    methods = METHODS if until is None else [METHODS[0], replace(METHODS[1], reference="one")]
    return LiveReducer(Plan(methods=methods, blocks=blocks, requests=4 * blocks, until=until), "session")


def begun(method: str, at: int, block: int = 0) -> Iterable[AnyRecord]:
    yield BlockStarted(t=at, method=method, block=block, position=1, of=2)


def ended(method: str, at: int, status: str = "ok", block: int = 0) -> Iterable[AnyRecord]:
    yield BlockEnded(t=at, method=method, block=block, status=status)


def phase(method: str, name: str, at: int) -> Iterable[AnyRecord]:
    yield BlockPhase(t=at, method=method, block=0, phase=name)


def request(method: str, number: int, start: int, end: int) -> Iterable[AnyRecord]:
    yield RequestStarted(t=start, method=method, block=0, request=number)
    yield Tokens(t=end, method=method, block=0, request=number, index=0, times=[end - 1, end], ids=[1, 2])
    yield RequestEnded(t=end, method=method, block=0, request=number, finish="length", output_tokens=2)


def left(live: LiveReducer, *happened: Iterable[AnyRecord]) -> float | None:
    for records in happened:
        for record in records:
            live.feed(record)
    return live.snapshot().left_s


def test_nothing_is_said_before_anything_is_known() -> None:
    assert left(reducer(), begun("one", 0), phase("one", "load", 5 * SECOND)) is None


def test_a_block_that_is_missing_takes_as_long_as_the_others() -> None:
    live = reducer()
    assert left(live, begun("one", 0), ended("one", 10 * SECOND)) == pytest.approx(10)
    assert left(live, begun("two", 10 * SECOND), phase("two", "load", 13 * SECOND)) == pytest.approx(7)


def test_a_block_that_takes_longer_than_the_others_is_not_said_to_be_over() -> None:
    live = reducer()
    left(live, begun("one", 0), ended("one", 10 * SECOND), begun("two", 10 * SECOND))
    assert left(live, phase("two", "load", 40 * SECOND)) is None
    left(live, phase("two", "timed", 50 * SECOND))
    assert left(live, request("two", 0, 50 * SECOND, 53 * SECOND)) == pytest.approx(9)
    assert left(live, request("two", 1, 53 * SECOND, 54 * SECOND)) == pytest.approx(4)
    last = (*request("two", 2, 54 * SECOND, 55 * SECOND), *request("two", 3, 55 * SECOND, 56 * SECOND))
    assert left(live, last, phase("two", "evidence", 57 * SECOND)) is None


def test_the_only_block_is_judged_by_its_own_requests() -> None:
    live = reducer()
    left(live, ended("one", SECOND, "unavailable"), begun("two", 2 * SECOND), phase("two", "timed", 10 * SECOND))
    assert left(live, request("two", 0, 10 * SECOND, 12 * SECOND)) == pytest.approx(6)


def test_a_block_that_failed_does_not_shorten_the_others() -> None:
    live = reducer(blocks=2)
    assert left(live, begun("one", 0), ended("one", SECOND, "failed")) is None
    assert left(live, begun("two", SECOND), ended("two", 21 * SECOND)) == pytest.approx(40)


def reference() -> Iterable[AnyRecord]:
    path = ReferencePath(nll=[[1.0]], top1=[[1]], margin=[[1.0]])
    window = Window(ids=[1, 2], scored=1, stratum="text")
    yield ReferenceScored(t=0, windows=[window], prefill=path, decode=path)


def test_scoring_is_added_for_methods_that_were_not_scored_and_not_for_others() -> None:
    """A round that added the fidelity was said to be over in 7 s when 50 s of scoring had just begun."""
    live = reducer(blocks=2)
    assert left(live, reference(), begun("one", 0), phase("one", "load", SECOND)) is None
    left(live, phase("one", "fidelity", 10 * SECOND), phase("one", "close", 40 * SECOND), ended("one", 41 * SECOND))
    # 11 s for each of three blocks, and 30 s for scoring the other method
    assert left(live) == pytest.approx(3 * 11 + 30)
    assert left(live, begun("two", 41 * SECOND), phase("two", "fidelity", 50 * SECOND)) == pytest.approx(30 + 2 * 11)
    assert left(live, phase("two", "close", 70 * SECOND), ended("two", 71 * SECOND)) == pytest.approx(11 + 10)


def test_nothing_is_said_while_scoring_takes_longer_than_with_others_or_nobody_knows_how_long_it_takes() -> None:
    live = reducer()
    first = begun("one", 0), phase("one", "fidelity", 10 * SECOND)
    assert left(live, reference(), *first) is None
    left(live, phase("one", "close", 20 * SECOND), ended("one", 21 * SECOND), begun("two", 21 * SECOND))
    assert left(live, phase("two", "fidelity", 32 * SECOND), phase("two", "close", 50 * SECOND)) is None


def test_scoring_is_added_where_nobody_knows_how_many_rounds_there_will_be() -> None:
    live = reducer(blocks=3, until=0.05)
    left(live, reference(), begun("one", 0), phase("one", "fidelity", 10 * SECOND), phase("one", "close", 40 * SECOND))
    least, without = left(live, ended("one", 41 * SECOND)), reducer(blocks=3, until=0.05)
    plain = left(without, begun("one", 30 * SECOND), ended("one", 41 * SECOND))
    assert least is not None
    assert plain is not None
    assert least - plain == pytest.approx(30)  # of the other method
