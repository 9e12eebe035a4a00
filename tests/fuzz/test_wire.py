"""Whatever a runner writes on its wire: a record that the journal can hold, a line passed over, or WireLieError."""

from __future__ import annotations

import contextlib
from array import array
from base64 import b64encode
from typing import Any, get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sessions.disk.journal import LINE_LIMIT_BYTES as JOURNAL_LINE_BYTES
from sessions.disk.messages import PHASES, AnyMessage, ManyMessage
from sessions.disk.records import AnyRecord, ManyTokens, PointEnded, RequestEnded, Tokens
from sessions.run import wire
from sessions.run.requests_in_flight import PlannedPart
from sessions.run.wire import WireTranslator
from sessions.run.wire_lie import WireLieError
from tests.fuzz.anything import fields_of
from tests.fuzz.profile import fuzzed

START, NOW, MOST_TOKENS = 1_000, 1_000_000, 8
NEAR = st.integers(START, NOW) | st.sampled_from((0, -1, START, NOW, NOW + 1, 2**63 - 1))
PLANNED = st.sampled_from((-1, 5, 6)) | st.integers(-2, 7)
CHOSEN: dict[str, st.SearchStrategy[Any]] = {
    "t": NEAR,
    "request": PLANNED,
    "phase": st.sampled_from(PHASES) | st.text(max_size=5),
    "finish": st.sampled_from(("length", "eos", "error", "nothing")),
    "output_tokens": st.integers(-1, 9),
    "place": st.integers(-1, 2),
    "scheduled_ns": st.none() | NEAR,
    "index": st.integers(-1, 9),
    "sequence": st.sampled_from((0, 0, 0, 1, -1, 2**40)),
    "times": st.lists(NEAR, max_size=4),
    "ids": st.lists(st.integers(-1, 70) | st.just(2**63 - 1), max_size=4),
}
NUMBERS = st.lists(NEAR | st.integers(-2, 70), max_size=3)
PACKED = NUMBERS.map(lambda numbers: b64encode(array("q", numbers).tobytes()).decode()) | st.text(max_size=12)
CHOSEN_OF_MANY = {
    "requests": st.lists(PLANNED, max_size=2),
    "indexes": st.lists(CHOSEN["index"], max_size=2),
    "counts": st.lists(st.integers(-1, 3), max_size=2),
    "times": PACKED,
    "ids": PACKED,
}
MESSAGES = st.one_of(
    *(fields_of(kind, **(CHOSEN_OF_MANY if kind is ManyMessage else CHOSEN)) for kind in get_args(AnyMessage))
)


PLAIN = [PlannedPart(warmups=[-1], timed=[5, 6], max_new_tokens=MOST_TOKENS)]
LOAD = [
    PlannedPart(place=1, warmups=[-1], timed=[5, 6], max_new_tokens=MOST_TOKENS, in_flight=2),
    PlannedPart(place=0, timed=[7], max_new_tokens=2, in_flight=None),
]


def translator(load: bool = False) -> WireTranslator:
    """For a block with one warm-up and two timed requests, under a load with one more at another point."""
    return WireTranslator("one", 2, LOAD if load else PLAIN, START, load=load)


def tokens_of(records: list[AnyRecord], request: int) -> int:
    one = [len(r.ids) for r in records if isinstance(r, Tokens) and r.request == request]
    many = [len(e.ids) for r in records if isinstance(r, ManyTokens) for e in r.tokens if e.request == request]
    return sum(one) + sum(many)


def assert_fits(record: AnyRecord) -> None:
    line = msgspec.json.encode(record)
    assert len(line) < JOURNAL_LINE_BYTES
    assert msgspec.json.decode(line, type=AnyRecord) == record


@given(st.lists(MESSAGES, max_size=20), st.booleans())
@fuzzed()
def test_messages_of_valid_kinds_in_any_order_are_believed_passed_over_or_refused(
    messages: list[Any], load: bool
) -> None:
    told = translator(load)
    records: list[AnyRecord] = []
    lied = False
    for message in messages:
        try:
            record = told.take(msgspec.json.encode(message), NOW)
        except WireLieError:
            lied = True
            break
        if record is not None:
            records.append(record)
    for record in records:
        assert_fits(record)
        assert START <= record.t <= NOW
    for ended in (record for record in records if isinstance(record, RequestEnded)):
        assert ended.output_tokens == tokens_of(records, ended.request)
    if told.done and not lied:
        points = {record.place for record in records if isinstance(record, PointEnded)}
        assert points == {0, 1} if load else told.finished_requests == 3


@given(st.lists(st.binary(max_size=200) | MESSAGES.map(msgspec.json.encode), max_size=20), st.booleans())
@fuzzed()
def test_any_lines_give_records_or_the_documented_error(lines: list[bytes], load: bool) -> None:
    told = translator(load)
    with contextlib.suppress(WireLieError):
        for line in lines:
            record = told.take(line, NOW)
            assert record is None or START <= record.t <= NOW


@given(st.integers(1, 4), st.sampled_from((b"1e15,", b'"\\u0001",', b"1e5,", b'"\xc2\x80",', b"-0.0,")))
@fuzzed(0.1)
def test_a_line_that_the_wire_lets_through_fits_into_a_line_of_the_journal(depth: int, piece: bytes) -> None:
    """What a float or an escape is written as may be longer than what was read."""
    room = wire.LINE_LIMIT_BYTES - 200
    values = piece * (room // len(piece))
    inner = b"[" * depth + values.rstrip(b",") + b"]" * depth
    told = translator()
    record = told.take(b'{"k":"evidence","t":1500,"evidence":{"a":' + inner + b"}}", NOW)
    if record is None:
        assert told.rejected == 1
    else:
        assert_fits(record)
