"""What a runner says is checked against what it said before and against the plan; nothing it says can break us."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions.disk.records import AnyRecord, Loaded, RequestEnded, RequestStarted, Text, Tokens
from sessions.run.requests_in_flight import PlannedPart
from sessions.run.wire import WireTranslator
from sessions.run.wire_lie import WireLieError

START, NOW = 1_000, 1_000_000
MAX_TOKENS = 4
Message = dict[str, Any]


def translator(max_new_tokens: int = MAX_TOKENS) -> WireTranslator:
    """For a block that began at 1,000 ns, with one warm-up and the timed requests 5 and 6."""
    part = PlannedPart(warmups=[-1], timed=[5, 6], max_new_tokens=max_new_tokens)
    return WireTranslator("one", 2, [part], START, prompt_lengths=[4])


def phase(name: str, t: int) -> Message:
    return {"k": "phase", "t": t, "phase": name}


def request(number: int, t: int, **changes: object) -> list[Message]:
    """A whole request of 3 tokens in two lines."""
    return [
        {"k": "request", "t": t, "request": number, "warmup": number < 0, "prompt_tokens": 4, "batch": 1} | changes,
        {"k": "tokens", "request": number, "index": 0, "times": [t + 1, t + 2], "ids": [10, 11]},
        {"k": "tokens", "request": number, "index": 2, "times": [t + 3], "ids": [12]},
        {"k": "request_end", "t": t + 4, "request": number, "finish": "length", "output_tokens": 3},
    ]


HONEST: list[Message] = [
    {"k": "hello", "schema": 1, "pid": 7, "python": "3.11", "engine": "scripted"},
    phase("import", 1_100),
    phase("load", 1_200),
    {"k": "loaded", "t": 1_300, "load_s": 1e-7, "weights_bytes": 10, "dtype": "float32", "threads": 2},
    phase("warmup", 1_400),
    *request(-1, 1_500),
    phase("timed", 1_600),
    *request(5, 1_700),
    *request(6, 1_800),
    phase("evidence", 1_900),
    {"k": "memory", "t": 1_910, "peak_rss_bytes": 5, "missing": {"kv_reserved_bytes": "why not"}},
    {"k": "evidence", "t": 1_920, "evidence": {"cache": "dynamic"}},
    phase("close", 1_930),
    {"k": "done", "t": 1_940},
]
TIMED = HONEST.index(phase("timed", 1_600))
FIRST_TOKENS = TIMED + 2
MEMORY = next(place for place, message in enumerate(HONEST) if message["k"] == "memory")


def tell(messages: list[Message], told: WireTranslator | None = None) -> list[AnyRecord]:
    """The records of a whole conversation."""
    told = told or translator()
    return [record for message in messages if (record := told.take(json.dumps(message).encode(), NOW))]


def test_an_honest_runner_is_believed_to_the_nanosecond() -> None:
    told = translator()
    records = tell(HONEST, told)
    assert told.done
    assert told.finished_requests == 3
    assert told.rejected == 0
    assert [r.request for r in records if isinstance(r, RequestStarted)] == [-1, 5, 6]
    assert [(r.request, r.index, r.times, r.ids) for r in records if isinstance(r, Tokens)] == [
        (number, index, times, ids)
        for number, t in ((-1, 1_500), (5, 1_700), (6, 1_800))
        for index, times, ids in ((0, [t + 1, t + 2], [10, 11]), (2, [t + 3], [12]))
    ]
    assert [(r.request, r.t, r.finish, r.output_tokens) for r in records if isinstance(r, RequestEnded)] == [
        (-1, 1_504, "length", 3),
        (5, 1_704, "length", 3),
        (6, 1_804, "length", 3),
    ]
    assert all(getattr(record, "method", "one") == "one" and getattr(record, "block", 2) == 2 for record in records)
    loaded = next(record for record in records if isinstance(record, Loaded))
    assert (loaded.load_s, loaded.weights_bytes, loaded.threads) == (1e-7, 10, 2)


def cut_at(ends_ns: int | None, finish: str = "stopped", output_tokens: int = 2) -> WireTranslator:
    """Told of a block whose second timed request never began, and whose first was cut after two tokens."""
    begun, tokens, _, end = request(5, 1_700)
    messages = [*HONEST[: TIMED + 1], begun, tokens, end | {"finish": finish, "output_tokens": output_tokens}]
    part = PlannedPart(warmups=[-1], timed=[5, 6], max_new_tokens=MAX_TOKENS)
    told = WireTranslator("one", 2, [part], START, prompt_lengths=[4], ends_ns=ends_ns)
    tell([*messages, *HONEST[HONEST.index(phase("evidence", 1_900)) :]], told)
    return told


def test_once_the_time_is_up_a_runner_may_be_done_with_requests_to_go() -> None:
    told = cut_at(1_940)
    assert told.done
    assert (told.requests.cut, told.requests.to_go, told.requests.whole) == (1, 1, 0)
    assert not told.requests.over_as_planned


@pytest.mark.parametrize("ends_ns", [None, 1_941], ids=["no limit", "before its time"])
def test_before_that_it_may_not(ends_ns: int | None) -> None:
    with pytest.raises(WireLieError, match="done with 1 requests to go"):
        cut_at(ends_ns)


def changed(place: int, **fields: object) -> list[Message]:
    return [*HONEST[:place], HONEST[place] | fields, *HONEST[place + 1 :]]


def without(place: int) -> list[Message]:
    return [*HONEST[:place], *HONEST[place + 1 :]]


def with_more(place: int, *messages: Message) -> list[Message]:
    return [*HONEST[:place], *messages, *HONEST[place:]]


def second_sequence(**fields: object) -> list[Message]:
    """A response of two sequences, of which the second says something else."""
    first = {"k": "tokens", "request": 5, "sequence": 0, "index": 0, "times": [1_701], "ids": [1]}
    other = {"k": "tokens", "request": 5, "sequence": 1, "index": 0, "times": [1_701], "ids": [1]}
    return [*HONEST[: TIMED + 2], first, other, other | {"index": 1, "times": [1_702]} | fields]


LIES: dict[str, tuple[list[Message], str]] = {
    "a phase before the block": (changed(1, t=START - 1), "backwards"),
    "a phase in the future": (changed(1, t=NOW + 1), "in the future"),
    "a negative time": (changed(1, t=-1), "backwards"),
    "a request before the phase it is in": (changed(TIMED + 1, t=1_599), "backwards"),
    "a request in the future": (changed(TIMED + 1, t=NOW + 1), "in the future"),
    "tokens before their request": (changed(FIRST_TOKENS, times=[1_699, 1_702]), "backwards"),
    "tokens that run backwards": (changed(FIRST_TOKENS, times=[1_702, 1_701]), "backwards"),
    "tokens before the line before": (changed(FIRST_TOKENS + 1, times=[1_701]), "backwards"),
    "tokens in the future": (changed(FIRST_TOKENS + 1, times=[NOW + 1]), "in the future"),
    "tokens at a negative time": (changed(FIRST_TOKENS, times=[-5, 1_702]), "backwards"),
    "more ids than times": (changed(FIRST_TOKENS, ids=[1, 2, 3]), "3 tokens with 2 times"),
    "more times than ids": (changed(FIRST_TOKENS, ids=[1]), "1 tokens with 2 times"),
    "a gap in the index": (changed(FIRST_TOKENS + 1, index=3), "lost count"),
    "an index twice": (changed(FIRST_TOKENS + 1, index=1), "lost count"),
    "a lost line of tokens": (without(FIRST_TOKENS), "lost count"),
    "a negative id": (changed(FIRST_TOKENS, ids=[-1, 2]), "invalid token ID"),
    "more tokens than were asked for": (
        changed(FIRST_TOKENS + 1, times=[1_703] * 3, ids=[1, 2, 3]),
        f"5 tokens of request 5, of which {MAX_TOKENS} were requested",
    ),
    "tokens of another request": (changed(FIRST_TOKENS, request=6), "outside that request"),
    "tokens outside of a request": (with_more(TIMED, HONEST[FIRST_TOKENS]), "outside that request"),
    "a count that is not that of the tokens": (changed(FIRST_TOKENS + 2, output_tokens=4), "has 4 tokens, but sent 3"),
    "an end of another request": (changed(FIRST_TOKENS + 2, request=6), "had not begun"),
    "an end with an unknown finish reason": (
        changed(FIRST_TOKENS + 2, finish="bored"),
        "with an unknown finish reason",
    ),
    "an end before the last token": (changed(FIRST_TOKENS + 2, t=1_702), "backwards"),
    "a negative count of cached tokens": (changed(FIRST_TOKENS + 2, cached_prompt_tokens=-1), "took -1 cached"),
    "more cached tokens than the prompt has": (changed(FIRST_TOKENS + 2, cached_prompt_tokens=9), "cached"),
    "some of what speculation did": (changed(FIRST_TOKENS + 2, decode_steps=3), "some of what its speculation did"),
    "steps that do not add up": (
        changed(FIRST_TOKENS + 2, decode_steps=3, drafted_tokens=4, accepted_tokens=1),
        "it says 3 steps gave 3 tokens, 1 of them from 4 drafted ones",
    ),
    "more accepted than drafted": (
        changed(FIRST_TOKENS + 2, decode_steps=1, drafted_tokens=1, accepted_tokens=2),
        "2 of them from 1 drafted ones",
    ),
    "fewer steps than none": (
        changed(FIRST_TOKENS + 2, decode_steps=-1, drafted_tokens=4, accepted_tokens=4),
        "-1 steps gave 3 tokens",
    ),
    "a request inside a request": (with_more(FIRST_TOKENS, HONEST[TIMED + 1]), "inside request 5"),
    "a request out of turn": (changed(TIMED + 1, request=6), "out of turn"),
    "a request that was not planned": (with_more(len(HONEST) - 1, *request(7, 1_935)), "out of turn"),
    "a request twice": (with_more(TIMED + 9, *request(6, 1_805)), "out of turn"),
    "a timed request as a warm-up": (changed(TIMED + 1, warmup=True), "not as planned"),
    "a warm-up as a timed request": (changed(5, warmup=False), "not as planned"),
    "no batch": (changed(TIMED + 1, batch=0), "not as planned"),
    "a prompt of another length": (changed(TIMED + 1, prompt_tokens=5), "a different number"),
    "a prompt that there is not": (changed(TIMED + 1, prompt_index=1), "a different number"),
    "a negative prompt": (changed(TIMED + 1, prompt_tokens=-1), "not as planned"),
    "done with requests to go": ([*HONEST[: TIMED + 5], HONEST[-1]], "done with 1 requests to go"),
    "done inside a request": ([*HONEST[: len(HONEST) - 6], HONEST[-1]], "done inside request 6"),
    "negative memory": (changed(MEMORY, peak_rss_bytes=-1), "peak_rss_bytes = -1"),
    "a load longer than it has been there": (changed(3, load_s=0.5), "longer than it has been running"),
    "a negative time to load": (changed(3, load_s=-0.5), "load_s = -0.5"),
    "a phase that comes again": (with_more(TIMED + 1, phase("load", 1_650)), "phase 'load' after 'timed'"),
    "loaded twice": (with_more(4, HONEST[3]), "twice"),
    "memory twice": (with_more(MEMORY, HONEST[MEMORY]), "twice"),
    "evidence twice": (with_more(MEMORY + 1, HONEST[MEMORY + 1], HONEST[MEMORY + 1]), "twice"),
    "words after done": ([*HONEST, phase("close", 1_950)], "after it was done"),
    "a negative time in a second sequence": (second_sequence(times=[-5]), "backwards"),
    "a second sequence before its request": (second_sequence(times=[1_699]), "backwards"),
    "a second sequence that runs backwards": (second_sequence(times=[1_700]), "backwards"),
    "a negative sequence": (second_sequence(sequence=-1, index=0), "sequence"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_refused_with_what_it_contradicts(name: str) -> None:
    messages, sentence = LIES[name]
    with pytest.raises(WireLieError, match=sentence):
        tell(messages)


def test_two_sequences_have_times_of_their_own() -> None:
    records = [record for record in tell(second_sequence()) if isinstance(record, Tokens) and record.request == 5]
    assert [(record.sequence, record.index, record.times) for record in records] == [
        (0, 0, [1_701]),
        (1, 0, [1_701]),
        (1, 1, [1_702]),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe",
        b'{"k":"weather","t":1}',
        b'{"k":7}',
        b'{"t":1}',
        b'{"k":"phase","t":1.5,"phase":"load"}',
        b'{"k":"phase","t":"now","phase":"load"}',
        b'{"k":"phase","t":1200,"phase":"lunch"}',
        b'{"k":"tokens","request":5,"index":0,"times":[1e400],"ids":[1]}',
        b'{"k":"request","t":1650,"request":5,"prompt_tokens":99999999999999999999}',
        b'{"k":"loaded","t":1300,"load_s":1e400}',
        b"[" * 100_000,
        b'{"k":"evidence","t":1200,"evidence":' + b'{"a":' * 500 + b"1" + b"}" * 501,
    ],
)
def test_what_is_no_message_is_counted_and_passed_over(line: bytes) -> None:
    told = translator()
    assert told.take(line, NOW) is None
    assert told.rejected == 1
    tell(HONEST, told)
    assert told.finished_requests == 3


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything(line: bytes) -> None:
    assert translator().take(line, NOW) is None


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_a_changed_conversation_is_believed_passed_over_or_refused(data: st.DataObject) -> None:
    """Whatever is changed in it, nothing but WireLieError comes out, and every record fits into the journal."""
    messages = [dict(message) for message in HONEST]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(messages) - 1))
        match data.draw(st.sampled_from(["field", "drop", "again", "swap", "kind"])):
            case "field":
                name = data.draw(st.sampled_from(sorted(messages[place])))
                messages[place][name] = data.draw(ANY_JSON)
            case "drop" if len(messages) > 1:
                del messages[place]
            case "again":
                messages.insert(data.draw(st.integers(0, len(messages))), dict(messages[place]))
            case "swap":
                other = data.draw(st.integers(0, len(messages) - 1))
                messages[place], messages[other] = messages[other], messages[place]
            case _:
                messages[place]["k"] = data.draw(st.text(max_size=5))
    told = translator()
    records: list[AnyRecord] = []
    with contextlib.suppress(WireLieError):
        records = tell(messages, told)
    for record in records:
        assert msgspec.json.decode(msgspec.json.encode(record), type=AnyRecord) == record
    if told.done and not told.rejected:
        assert told.finished_requests == 3


def test_what_would_not_fit_into_a_line_of_the_journal_is_passed_over() -> None:
    """Written again, `1e15` takes four times as many characters."""
    told = translator()
    values = b"1e15," * 800_000 + b"1"
    assert told.take(b'{"k":"evidence","t":1500,"evidence":{"a":[' + values + b"]}}", NOW) is None
    assert told.rejected == 1


# Text without ids


def text(number: int, t: int, *, tokens: int = 3, **changes: object) -> list[Message]:
    """A request whose text came in two pieces."""
    return [
        {"k": "request", "t": t, "request": number, "warmup": number < 0, "prompt_tokens": 4, "batch": 1},
        {"k": "text", "request": number, "times": [t + 1, t + 2], "texts": ["a", "b"]} | changes,
        {"k": "request_end", "t": t + 4, "request": number, "finish": "length", "output_tokens": tokens},
    ]


def begun() -> list[Message]:
    return [HONEST[0], phase("warmup", 1_400)]


def test_text_is_counted_by_whoever_generated_it() -> None:
    records = tell([*begun(), *text(-1, 1_500)])
    assert [(each.t, each.texts) for each in records if isinstance(each, Text)] == [(1_502, ["a", "b"])]
    assert [each.output_tokens for each in records if isinstance(each, RequestEnded)] == [3]


@pytest.mark.parametrize(
    ("changes", "lie"),
    [
        ({"tokens": 1}, "1 tokens, which came in 2 pieces"),
        ({"tokens": 5}, "5 tokens, which came in 2 pieces and of which 4 were requested"),
        ({"times": [1_501]}, "2 pieces of text with 1 times"),
        ({"times": [1_502, 1_501]}, "ran backwards"),
        ({"times": [1_499, 1_501]}, "ran backwards"),
        ({"times": [1_501, NOW + 1]}, "in the future"),
        ({"request": 5}, "outside that request"),
        ({"times": [1_501] * 5, "texts": ["a"] * 5}, "5 pieces of text"),
    ],
)
def test_text_that_contradicts_itself_is_a_lie(changes: dict[str, Any], lie: str) -> None:
    with pytest.raises(WireLieError, match=lie):
        tell([*begun(), *text(-1, 1_500, **changes)])


def test_text_and_tokens_of_one_request_are_a_lie() -> None:
    whole = text(-1, 1_500)
    tokens = {"k": "tokens", "request": -1, "index": 0, "times": [1_503], "ids": [1]}
    for messages in ([*whole[:2], tokens], [whole[0], tokens | {"times": [1_501]}, whole[1]]):
        with pytest.raises(WireLieError, match="both text and tokens"):
            tell([*begun(), *messages])


def test_text_beside_tokens_is_for_readers() -> None:
    messages = request(-1, 1_500)
    beside = {"k": "text", "request": -1, "times": [1_501], "texts": ["a"], "beside": True}
    records = tell([*begun(), *messages[:-1], beside, messages[-1]])
    assert [each.texts for each in records if isinstance(each, Text)] == [["a"]]
    assert [each.output_tokens for each in records if isinstance(each, RequestEnded)] == [3]
    with pytest.raises(WireLieError, match="5 pieces of text"):
        tell([*begun(), *messages[:-1], beside | {"times": [1_501] * 5, "texts": ["a"] * 5}, messages[-1]])


def test_an_id_may_be_unknown_but_not_negative() -> None:
    messages = request(-1, 1_500)
    messages[1]["ids"] = [None, 11]
    records = tell([*begun(), *messages])
    assert [each.ids for each in records if isinstance(each, Tokens)] == [[None, 11], [12]]
    messages[1]["ids"] = [None, -1]
    with pytest.raises(WireLieError, match="invalid token ID"):
        tell([*begun(), *messages])
