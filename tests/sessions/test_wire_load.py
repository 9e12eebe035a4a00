"""What a runner says of many requests in flight is checked request by request, and against the plan of its point."""

from __future__ import annotations

import json
from array import array
from base64 import b64encode
from typing import Any

import pytest

from sessions.disk.records import AnyRecord, ManyTokens, PointEnded, PointStarted, RequestStarted
from sessions.run.requests_in_flight import PlannedPart
from sessions.run.wire import WireTranslator
from sessions.run.wire_lie import WireLieError

START, NOW = 1_000, 1_000_000
Message = dict[str, Any]
PARTS = [
    PlannedPart(place=1, warmups=[-1], timed=[0, 1, 2], max_new_tokens=4, in_flight=2),
    PlannedPart(place=0, warmups=[], timed=[3, 4], max_new_tokens=2, in_flight=None),
]


def begin(number: int, t: int, place: int = 1, **more: object) -> Message:
    return {"k": "request", "t": t, "request": number, "warmup": number < 0, "place": place, **more}


def many(*tokens: tuple[int, int, list[int]]) -> Message:
    """(request, index, times) of each."""
    times = array("q", [t for _, _, own in tokens for t in own])
    ids = array("q", [7] * len(times))
    return {
        "k": "many",
        "requests": [request for request, _, _ in tokens],
        "indexes": [index for _, index, _ in tokens],
        "counts": [len(own) for _, _, own in tokens],
        **{name: b64encode(numbers.tobytes()).decode() for name, numbers in (("times", times), ("ids", ids))},
    }


def end(number: int, t: int, tokens: int) -> Message:
    return {"k": "request_end", "t": t, "request": number, "finish": "length", "output_tokens": tokens}


HONEST: list[Message] = [
    {"k": "phase", "t": 1_100, "phase": "warmup"},
    begin(-1, 1_110),
    many((-1, 0, [1_111])),
    end(-1, 1_112, 1),
    {"k": "phase", "t": 1_200, "phase": "timed"},
    {"k": "point", "t": 1_201, "place": 1},
    begin(0, 1_210),
    begin(1, 1_210),
    many((0, 0, [1_220, 1_230]), (1, 0, [1_221])),
    end(0, 1_240, 2),
    begin(2, 1_250),
    many((1, 1, [1_231]), (2, 0, [1_251])),  # the first had waited for the flush
    end(1, 1_260, 2),
    end(2, 1_261, 1),
    {"k": "point_end", "t": 1_262, "place": 1, "status": "ok"},
    {"k": "point", "t": 1_263, "place": 0},
    begin(3, 1_270, 0, scheduled_ns=1_265),
    begin(4, 1_271, 0),
    many((4, 0, [1_272]), (3, 0, [1_273])),
    end(3, 1_280, 1),
    end(4, 1_281, 1),
    {"k": "point_end", "t": 1_282, "place": 0, "status": "ok"},
    {"k": "phase", "t": 1_300, "phase": "evidence"},
    {"k": "done", "t": 1_400},
]


def translator() -> WireTranslator:
    return WireTranslator("one", 2, PARTS, START, load=True)


def tell(messages: list[Message], told: WireTranslator | None = None) -> list[AnyRecord]:
    told = told or translator()
    return [record for message in messages if (record := told.take(json.dumps(message).encode(), NOW))]


def place_of(**fields: object) -> int:
    return next(
        place
        for place, message in enumerate(HONEST)
        if all(message.get(name) == value for name, value in fields.items())
    )


def test_requests_in_flight_together_are_believed() -> None:
    told = translator()
    records = tell(HONEST, told)
    assert (told.done, told.rejected, told.finished_requests, told.measured) == (True, 0, 6, True)
    assert [r.place for r in records if isinstance(r, PointStarted)] == [1, 0]
    assert [(r.place, r.status) for r in records if isinstance(r, PointEnded)] == [(1, "ok"), (0, "ok")]
    assert [(r.request, r.scheduled_ns) for r in records if isinstance(r, RequestStarted)][-2:] == [
        (3, 1_265),
        (4, None),
    ]
    said = [(r.t, [(e.request, e.index, e.times) for e in r.tokens]) for r in records if isinstance(r, ManyTokens)]
    assert said[1] == (1_230, [(0, 0, [1_220, 1_230]), (1, 0, [1_221])])
    assert said[2] == (1_251, [(1, 1, [1_231]), (2, 0, [1_251])])


def test_a_point_that_fails_leaves_its_requests_out_and_the_next_goes_on() -> None:
    broken = [
        *HONEST[: place_of(k="request", request=2)],
        end(1, 1_255, 1),
        {"k": "point_end", "t": 1_262, "place": 1, "status": "oom", "error": "no room"},
        *HONEST[place_of(k="point", place=0) :],
    ]
    told = translator()
    ended = [record for record in tell(broken, told) if isinstance(record, PointEnded)]
    assert told.done
    assert [(each.place, each.status, each.error) for each in ended] == [(1, "oom", "no room"), (0, "ok", "")]


def swapped(at: int, **fields: object) -> list[Message]:
    return [*HONEST[:at], HONEST[at] | fields, *HONEST[at + 1 :]]


def with_more(place: int, *messages: Message) -> list[Message]:
    return [*HONEST[:place], *messages, *HONEST[place:]]


LIES: dict[str, tuple[list[Message], str]] = {
    "more in flight than there are slots": (
        with_more(place_of(k="request_end", request=0), begin(2, 1_235)),
        "with 2 in flight",
    ),
    "tokens of a request that has ended": (
        with_more(place_of(k="request", request=2), many((0, 2, [1_245]))),
        "outside that request",
    ),
    "tokens of one request counted for another": (
        swapped(place_of(k="many", requests=[1, 2]), **many((1, 0, [1_231]))),
        "lost count",
    ),
    "fewer times than tokens": (
        swapped(place_of(k="many", requests=[1, 2]), times=many((1, 1, [1_231]))["times"]),
        "do not add up",
    ),
    "a count below none": (swapped(place_of(k="many", requests=[1, 2]), counts=[3, -1]), "do not add up"),
    "times of one request that run backwards": (
        with_more(place_of(k="request_end", request=0), many((0, 2, [1_229]))),
        "backwards",
    ),
    "more tokens than the point has": (
        with_more(place_of(k="request_end", request=3), many((3, 1, [1_274, 1_275]))),
        "of which 2 were requested",
    ),
    "a timed request before its point": (
        with_more(place_of(k="point", place=1), begin(0, 1_200)),
        "outside its point",
    ),
    "a request of another point": (swapped(place_of(k="request", request=2), place=0), "inside request 1"),
    "an end with a request in flight": (
        with_more(place_of(k="request_end", request=2), {"k": "point_end", "t": 1_260, "place": 1, "status": "ok"}),
        "out of turn",
    ),
    "an end with requests to go": (
        [*HONEST[: place_of(k="point", place=1) + 1], {"k": "point_end", "t": 1_205, "place": 1, "status": "ok"}],
        "with 3 requests to go",
    ),
    "an unknown end": (swapped(place_of(k="point_end", place=1), status="fine"), "out of turn"),
    "a point twice": (swapped(place_of(k="point", place=0), place=1), "out of turn"),
    "a point before the timed part": (
        with_more(place_of(k="phase", phase="timed"), {"k": "point", "t": 1_150, "place": 1}),
        "in the phase 'warmup'",
    ),
    "a request that began before it was due": (
        swapped(place_of(k="request", request=3), scheduled_ns=1_271),
        "before it was due",
    ),
    "done without a point": (
        [*HONEST[: place_of(k="point", place=0)], {"k": "done", "t": 1_400}],
        "with 2 requests to go",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_found(name: str) -> None:
    messages, said = LIES[name]
    with pytest.raises(WireLieError, match=said):
        tell(messages)
