"""Faults planted in the requests of a point: each is flagged, and the sound point is not."""

from __future__ import annotations

from typing import Any

import pytest

from sessions.frames.flags import other_lengths
from sessions.frames.load_flags import point_flags
from sessions.frames.point_figures import point_figures
from tests.validity.made_frames import block, run
from tests.validity.made_loads import SECOND, TWO_AT_ONCE, frames

ONE_BY_ONE = {
    0: (0.0, [1.0, 2.0]),
    1: (0.1, [3.0, 4.0]),
    2: (2.1, [5.0, 6.0]),
    3: (4.1, [7.0, 8.0]),
}
AS_DUE = {0: (0.0, [1.0, 2.0]), 1: (2.1, [3.1, 4.1]), 2: (4.2, [5.2, 6.2]), 3: (6.3, [7.3, 8.3])}
TIMES = [round(begun * SECOND) for begun, _ in AS_DUE.values()]
OPEN = {"rate": 0.5, "concurrency": None, "point": "rate 0.5"}


def flagged(responses: Any = TWO_AT_ONCE, **columns: Any) -> list[str]:
    requests, _ = frames(responses, **columns)
    first = {name: requests[name][0] for name in ("batch", "concurrency", "rate", "depth")}
    run = point_figures(requests).row(0, named=True) | first
    return [str(flag) for flag in point_flags(run, requests)]


def test_a_sound_point_has_no_flag() -> None:
    assert flagged(cached_prompt_tokens=0) == []
    assert flagged(AS_DUE, **OPEN) == []


@pytest.mark.parametrize(
    ("cached", "depth", "expected"),
    [
        ([0, 8, 8, 8], 0, ["prompt from a prefix cache: 60 % of the prompt tokens, in 3 of 4 timed requests"]),
        ([4, 4, 4, 4], 4, []),  # what was to be in the cache
        ([4, 4, 3, 4], 4, ["cache not filled: 1 of 4 timed requests began with 3 of 4 tokens"]),
        ([4, 4, 10, 4], 4, ["prompt from a prefix cache: 25 % of the prompt tokens, in 1 of 4 timed requests"]),
        ([None, None, None, None], 0, []),
    ],
)
def test_a_prefix_cache_left_on(cached: list[int | None], depth: int, expected: list[str]) -> None:
    assert flagged(cached_prompt_tokens=cached, depth=depth) == expected


def test_an_early_eos_and_uneven_lengths() -> None:
    """Of the length that was asked for at the point, which is not the plan's."""
    early, _ = frames(TWO_AT_ONCE | {3: (5.1, [6.0])})
    (told,) = other_lengths(early, block(run(osl=4)).sampling)
    assert str(told) == "output lengths differ: 1 of 4 timed responses have 1 tokens, not 4"


def test_requests_that_did_not_overlap() -> None:
    assert flagged(ONE_BY_ONE) == ["requests did not overlap: of 2 in flight at most 1 were generating at once"]
    eight = {number: (0.0, [0.5 + number // 2, 1.0 + number // 2]) for number in range(16)}
    assert (
        flagged(eight, concurrency=8)[0] == "fewer requests at once: of 8 in flight at most 2 were generating at once"
    )


def test_a_client_that_stalls_in_an_open_loop() -> None:
    scheduled = [TIMES[0], TIMES[1], TIMES[2] - 3 * SECOND, TIMES[3]]
    (told,) = flagged(AS_DUE, **OPEN | {"scheduled_ns": scheduled})
    assert told.startswith("client stalled: 1 of 4 requests were sent up to 3 s late")


@pytest.mark.parametrize(("serving_s", "reached"), [(0.4, True), (0.6, False)])
def test_a_rate_that_was_not_reached(serving_s: float, reached: bool) -> None:
    """Twenty requests come every half second to a server that takes them one after another."""
    free, responses = 0.0, {}
    for number in range(20):
        begun = max(free, number / 2)
        free = begun + serving_s
        responses[number] = (number / 2, [begun + serving_s / 2, free])
    told = flagged(responses, rate=2.0, concurrency=None, point="rate 2")
    assert told == ([] if reached else ["rate not reached: 1.7 requests/s of 2 were served: the queue grew"])


def test_a_steady_part_of_too_few_requests() -> None:
    few = {0: (0.0, [1.0, 3.0]), 1: (1.0, [2.0, 4.0])}
    assert flagged(few) == ["steady part too short: no request ran with 2 in flight from beginning to end"]
    assert flagged({**few, 2: (3.1, [3.5, 5.0])}) == [
        "steady part too short: only 1 request ran with 2 in flight from beginning to end"
    ]


def test_requests_that_failed() -> None:
    finishes = ["length", "length", "length", "error"]
    assert "requests failed: 1 of 4 timed requests did not complete" in flagged(finish_reason=finishes)


def test_a_point_without_a_request_that_ended_well() -> None:
    requests, _ = frames(TWO_AT_ONCE, finish_reason="error")
    assert point_figures(requests).is_empty()
    assert [flag.name for flag in point_flags({}, requests)] == ["requests failed"]
    assert point_flags({}, requests.clear()) == []
