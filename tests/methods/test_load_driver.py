"""The load that a runner hands to an engine: when requests are due, how many are in flight, what is sent of them."""

from __future__ import annotations

import gc
import json
import os
from itertools import pairwise
from typing import Any

import pytest

from tests.methods.runner_module import runner_module
from tests.methods.runner_process import unpacked

kasoku_load = runner_module("kasoku_load")
kasoku_bare_load = runner_module("kasoku_bare_load")
kasoku_wire = runner_module("kasoku_wire")
SECOND = 1_000_000_000


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


class Asked:
    """A request as the runner has it."""

    def __init__(self, number: int, warmup: bool = False) -> None:
        self.number, self.warmup, self.prompt_index, self.prompt_ids = number, warmup, 0, [1, 2]
        self.max_new_tokens, self.seed, self.depth = 3, number, 0
        self.cached_prompt_tokens, self.speculated = None, dict[str, int]()


class Driven:
    """A load with a clock of ours and the lines that it sent."""

    def __init__(self, count: int, kind: Any = kasoku_load.Load, **way: object) -> None:
        self.clock = Clock()
        self.reading, writing = os.pipe()
        requests = [Asked(number) for number in range(count)]
        point = kasoku_load.Point({"place": 2, "name": "p", "seed": "s", **way}, requests)
        self.load = kind(point, requests, kasoku_wire.Wire(writing, self.clock))

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in os.read(self.reading, 1 << 20).splitlines()]


def numbers(requests: list[Any]) -> list[int]:
    return [request.number for request in requests]


def test_a_closed_loop_has_so_many_in_flight_and_the_next_when_one_ends() -> None:
    driven = Driven(4, concurrency=2)
    load = driven.load
    first, second = load.take()
    assert (load.take(), load.wait_s(), load.over) == ([], None, False)
    load.emit(first, [7])
    load.end(first)
    assert load.wait_s() == 0
    assert numbers(load.coming()) == numbers(load.take()) == [2]
    for request in (second, load._open[2].request):
        load.emit(request, [1, 2, 3])
        load.end(request)
    assert numbers(load.take()) == [3]


def test_a_bare_loop_says_the_same_and_only_at_the_end() -> None:
    told = []
    for kind in (kasoku_load.Load, kasoku_bare_load.BareLoad):
        driven = Driven(3, kind, concurrency=2)
        load, going = driven.load, []
        while not load.over:
            going += load.take()
            for step in range(3):
                for request in list(going):
                    driven.clock.now += SECOND // 90
                    load.emit(request, [step])
            for request in going:
                load.end(request)
            going.clear()
        os.set_blocking(driven.reading, False)
        if kind is not kasoku_load.Load:
            with pytest.raises(BlockingIOError):
                driven.said()
        load.tell()
        told.append(driven.said())
    assert told[0] == told[1]
    assert [line["finish"] for line in told[0] if line["k"] == "request_end"] == ["length"] * 3
    for kind in (kasoku_load.Load, kasoku_bare_load.BareLoad):
        driven = Driven(3, kind, concurrency=3)
        first, *others = driven.load.take()
        driven.load.emit(first, [1])
        driven.load.fail(first, "It broke off.")
        for request in others:
            driven.load.emit(request, [1])
        driven.load.end_all(others)
        driven.load.tell()
        ends = {line["request"]: line for line in driven.said() if line["k"] == "request_end"}
        assert [line["finish"] for _, line in sorted(ends.items())] == ["error", "eos", "eos"]
        assert ends[first.number]["error"] == "It broke off."
    bare = Driven(2, kasoku_bare_load.BareLoad, concurrency=2)
    first, _ = bare.load.take()
    bare.load.emit(first, [1])
    bare.load.break_off()
    assert [line["finish"] for line in bare.said() if line["k"] == "request_end"] == ["error", "error"]


def test_a_request_that_ends_sends_its_own_tokens_and_leaves_the_others_to_the_next_flush() -> None:
    """To go through all requests whenever one ended cost 1 µs a token at 256 in flight."""
    driven = Driven(2, concurrency=2)
    first, second = driven.load.take()
    for request in (first, second):
        driven.load.emit(request, [7, 8])
        driven.load.text(request, "words")
    driven.load.end(first)
    said = driven.said()
    assert [line["requests"] for line in said if line["k"] == "many"] == [[first.number]]
    assert [line["request"] for line in said if line["k"] == "text"] == [first.number]
    driven.load.end(second)
    said = driven.said()
    assert [line["requests"] for line in said if line["k"] == "many"] == [[second.number]]
    assert [line["k"] for line in said][-1] == "request_end"


def test_a_bare_loop_leaves_no_garbage_to_look_for() -> None:
    """Objects kept for each delta would have Python go through all of an engine's in the middle of the loop."""
    driven = Driven(2, kasoku_bare_load.BareLoad, concurrency=2)
    going = driven.load.take()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(2_000):
        for request in going:
            driven.load.emit(request, [7])
            driven.load.emit(request, [7, 8])
    assert len(gc.get_objects()) < before + 100


def test_a_batch_begins_together_once_the_last_has_ended() -> None:
    driven = Driven(4, batch=2)
    load = driven.load
    first, second = load.take()
    load.emit(first, [1])
    load.end(first)
    assert load.take() == []
    load.emit(second, [1])
    load.end(second)
    driven.clock.now += SECOND
    assert numbers(load.take()) == [2, 3]
    begun = {line["request"]: line["t"] for line in driven.said() if line["k"] == "request"}
    assert begun == {0: 5 * SECOND, 1: 5 * SECOND, 2: 6 * SECOND, 3: 6 * SECOND}


def test_an_open_loop_waits_for_nobody_and_says_when_each_was_due() -> None:
    driven = Driven(3, rate=10.0)
    load, due = driven.load, list(driven.load._due)
    assert due[0] == driven.clock.now < due[1] < due[2]
    assert numbers(load.take()) == [0]
    assert load.wait_s() == pytest.approx((due[1] - due[0]) / 1e9)
    driven.clock.now = due[2] + 5
    assert numbers(load.take()) == [1, 2]
    assert load.wait_s() is None
    said = [line for line in driven.said() if line["k"] == "request"]
    assert [line["scheduled_ns"] for line in said] == due
    assert [line["t"] for line in said] == [due[0], due[2] + 5, due[2] + 5]


@pytest.mark.parametrize(("shape", "variation"), [(1.0, 1.0), (4.0, 0.5), (0.25, 2.0)])
def test_gaps_have_the_rates_mean_and_the_shapes_variation(shape: float, variation: float) -> None:
    """The coefficient of variation of a gamma distribution is 1/√shape."""
    point = kasoku_load.Point({"place": 0, "name": "p", "rate": 5.0, "burstiness": shape, "seed": "1 2 3"}, [])
    due = point.due_after_s(20_001, warmup=False)
    gaps = [later - earlier for earlier, later in pairwise(due)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.2, rel=0.05)
    assert spread / mean == pytest.approx(variation, rel=0.06)
    again = kasoku_load.Point({"place": 0, "name": "p", "rate": 5.0, "burstiness": shape, "seed": "1 2 3"}, [])
    assert again.due_after_s(20_001, warmup=False) == due


def test_tokens_of_all_in_flight_go_in_one_line_at_most_every_50_ms() -> None:
    driven = Driven(2, concurrency=2)
    load, clock = driven.load, driven.clock
    first, second = load.take()
    driven.said()
    for ids in ([4], [5]):
        clock.now += 20_000_000
        load.emit(first, ids)
        load.emit(second, [9])
    clock.now += 20_000_000
    load.emit(second, [9])
    (line,) = driven.said()
    start = 5 * SECOND
    assert unpacked(line) == [
        (0, 0, [start + 20_000_000, start + 40_000_000], [4, 5]),
        (1, 0, [start + 20_000_000, start + 40_000_000, start + 60_000_000], [9, 9, 9]),
    ]
    load.end(first)
    load.end(second)
    assert [(line["request"], line["finish"], line["output_tokens"]) for line in driven.said()] == [
        (0, "eos", 2), (1, "length", 3),
    ]  # fmt: skip
    assert load.over


def test_marks_of_a_batch_are_fetched_by_row_and_rows_may_be_shorter() -> None:
    driven = Driven(2, batch=2)
    load = driven.load
    both = load.take()
    driven.said()
    for _ in range(3):
        driven.clock.now += 1
        load.mark(both, lambda count: [[5, 6, 7][:count], [8]])
    load.end_all(both)
    line, *ends = driven.said()
    start = 5 * SECOND
    assert unpacked(line) == [(0, 0, [start + 1, start + 2, start + 3], [5, 6, 7]), (1, 0, [start + 1], [8])]
    assert [(each["finish"], each["output_tokens"]) for each in ends] == [("length", 3), ("eos", 1)]


def test_a_failure_ends_what_is_in_flight_as_an_error_and_nothing_else_begins() -> None:
    driven = Driven(5, concurrency=2)
    load = driven.load
    first, _ = load.take()
    load.emit(first, [1])
    load.break_off()
    ends = [
        (line["request"], line["finish"], line["output_tokens"]) for line in driven.said() if line["k"] == "request_end"
    ]
    assert ends == [(0, "error", 1), (1, "error", 0)]
    assert load.over


def test_ids_after_the_end_of_a_response_are_an_error_and_not_lost() -> None:
    driven = Driven(1, concurrency=1)
    (only,) = driven.load.take()
    driven.load.emit(only, [1])
    driven.load.end(only)
    with pytest.raises(RuntimeError, match="request 0, which is not in flight"):
        driven.load.emit(only, [2])


def test_text_without_ids_is_sent_as_text_and_counted_by_whoever_made_it() -> None:
    driven = Driven(2, concurrency=2)
    load = driven.load
    first, second = load.take()
    emit, other = load.stream_of(first), load.stream_of(second)
    driven.said()
    emit.text("Hel")
    emit.text("lo")
    emit.counted(5, 9)
    other([3, None])
    other.text("x", beside=True)
    load.end(first)
    load.end(second)
    lines = driven.said()
    assert [(line["request"], line["texts"], line["beside"]) for line in lines if line["k"] == "text"] == [
        (0, ["Hel", "lo"], False), (1, ["x"], True),
    ]  # fmt: skip
    assert [unpacked(line) for line in lines if line["k"] == "many"] == [[(1, 0, [5 * SECOND] * 2, [3, None])]]
    ends = [line for line in lines if line["k"] == "request_end"]
    assert [(line["output_tokens"], line.get("counted_prompt_tokens")) for line in ends] == [(5, 9), (2, None)]
