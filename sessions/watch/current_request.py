"""The requests in flight, or the last one: their tokens, their text and the rate at which tokens come."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sessions.disk.records import ManyTokens, RequestEnded, RequestStarted, Text, Tokens
from sessions.frames.counting import request_counts

RATE_WINDOW_NS: Final = 1_000_000_000

Decoder = Callable[[Sequence[int]], str]  # the next ids in, the next piece of text out


class Flight:
    """One request: how many tokens it has, and what they say."""

    def __init__(self, begun: RequestStarted, decode: Decoder | None) -> None:
        self.begun = begun
        self.tokens = 0
        self.sequences: dict[int, tuple[int, int, int]] = {}  # tokens, first and last time
        self.times: array[int] | None = None  # of each token, where they are asked for
        self._decode = decode
        self._text: list[str] = []
        self._pieces: tuple[int, int] | None = None  # when the first and the last piece of text came, where no ids did
        self._undecoded: list[int] = []

    def take(self, times: Sequence[int], ids: Sequence[int | None], sequence: int) -> None:
        first, last, count = times[0], times[-1], len(ids)  # the wire refuses any other order
        known = self.sequences.get(sequence)
        self.sequences[sequence] = (known[0] + count, known[1], last) if known else (count, first, last)
        self.tokens += count
        if self.times is not None:
            self.times.extend(times)
        # into text once somebody looks: of an old journal only the last request is seen
        self._undecoded += [each for each in ids if each is not None]

    def take_text(self, record: Text) -> None:
        """Take text in. That which comes without tokens is counted at the request's end."""
        self._text += record.texts
        if not record.beside:
            self._pieces = (self._pieces[0] if self._pieces else record.times[0], record.times[-1])

    def end(self, tokens: int) -> None:
        """It has ended, with so many tokens."""
        if self._pieces is not None:
            self.tokens = tokens
            self.sequences[0] = (tokens, *self._pieces)

    def text(self) -> str:
        """What it has generated until now; empty where the model has no tokeniser."""
        if self._decode is not None and self._undecoded:
            self._text.append(self._decode(self._undecoded))
        self._undecoded.clear()
        return "".join(self._text)


class CurrentRequest:
    """`begun` is None between blocks. Of those in flight the one that is shown is the longest there, or the one in the
    slot that is looked into; what the last one generated stays to be seen until the next begins.

    `times`: keep those of all tokens of a timed request while it is in flight.
    """

    def __init__(self, times: bool = False) -> None:
        self._times = times
        self._slots: list[Flight | None] = []  # each request takes the first that is free, and leaves it as it ends
        self._looked_into: int | None = None
        self.new_decoder: Callable[[], Decoder] | None = None
        self._open: dict[int, Flight] = {}
        self._shown: Flight | None = None
        self._left = True
        self._since = 0  # from when on there was always one in flight
        self._recent: deque[tuple[int, int]] = deque()

    @property
    def begun(self) -> RequestStarted | None:
        return None if self._left or self._shown is None else self._shown.begun

    @property
    def tokens(self) -> int:
        """Of the request that is shown."""
        return self._shown.tokens if self._shown is not None else 0

    def slots(self) -> Sequence[Flight | None]:
        """The requests in flight, each in its slot; None is an empty one."""
        return tuple(self._slots)

    def flight_of(self, record: RequestEnded) -> Flight | None:
        """The request that ends by this."""
        flight = self._open.get(record.request)
        return flight if flight is not None and self._is_of(record, flight) else None

    def look_into(self, slot: int | None) -> None:
        """Show the request in this slot from now on, or with None the longest there."""
        self._looked_into = slot
        self._choose()

    def _choose(self) -> None:
        slot = self._looked_into
        looked = self._slots[slot] if slot is not None and slot < len(self._slots) else None
        if looked is not None:
            self._shown = looked
        elif self._open and (self._shown is None or self._shown.begun.request not in self._open):
            self._shown = next(iter(self._open.values()))

    def _seat(self, flight: Flight) -> None:
        if None in self._slots:
            self._slots[self._slots.index(None)] = flight
        else:
            self._slots.append(flight)

    def start(self, record: RequestStarted) -> None:
        if self._open and not self._is_beside(record):
            self._clear()
        if not self._open:
            self._since = record.t
            self._recent.clear()
            self._slots.clear()
            self._shown = None
        flight = Flight(record, self.new_decoder() if self.new_decoder else None)
        if self._times and not record.warmup:
            flight.times = array("q")
        self._open[record.request] = flight
        self._seat(flight)
        self._choose()
        self._left = False

    def leave(self) -> None:
        """The block is over."""
        self._clear()
        self._left = True

    def _clear(self) -> None:
        self._open.clear()
        self._slots.clear()

    def take(self, record: Tokens) -> None:
        """Take tokens in; those of a request that is not in flight are ignored."""
        flight = self._open.get(record.request)
        if flight is None or not record.times or not self._is_of(record, flight):
            return
        flight.take(record.times, record.ids, record.sequence)
        self._came(record.times[-1], len(record.ids))

    def take_many(self, record: ManyTokens) -> None:
        """The same of several requests."""
        count = 0
        for each in record.tokens:
            flight = self._open.get(each.request)
            if flight is not None and each.times and self._is_of(record, flight):
                flight.take(each.times, each.ids, 0)
                count += len(each.ids)
        if count:
            self._came(record.t, count)

    def _came(self, last: int, count: int) -> None:
        self._recent.append((last, count))
        while len(self._recent) > 1 and self._recent[0][0] < last - RATE_WINDOW_NS:
            self._recent.popleft()

    def take_text(self, record: Text) -> None:
        """The same of text."""
        flight = self._open.get(record.request)
        if flight is not None and record.times and self._is_of(record, flight):
            flight.take_text(record)

    def end(self, record: RequestEnded) -> Iterator[tuple[float, float, int]]:
        """(tokens/s, TTFT in s, tokens) of each of its responses that counts, if the block does."""
        flight = self.flight_of(record)
        if flight is None:
            return
        del self._open[record.request]
        self._slots[self._slots.index(flight)] = None
        self._choose()
        flight.end(record.output_tokens)
        begun = flight.begun
        due = begun.t if begun.scheduled_ns is None else begun.scheduled_ns
        for count, first, last in flight.sequences.values():
            tok_s = count / ((last - due) / 1e9) if last > due else None
            if tok_s is not None and request_counts(begun.warmup, record.finish, tok_s):
                yield tok_s, (first - due) / 1e9, count

    def _is_beside(self, record: RequestStarted) -> bool:
        """Whether it begins beside those in flight, and not in their stead, as after a block that broke off."""
        return any(self._is_of(record, flight) for flight in self._open.values())

    @staticmethod
    def _is_of(record: RequestStarted | Tokens | ManyTokens | Text | RequestEnded, flight: Flight) -> bool:
        return (record.method, record.block) == (flight.begun.method, flight.begun.block)

    def tok_s_now(self) -> float | None:
        """Tokens over the last second, or since there is one in flight where that is less long ago."""
        if self._left or self._shown is None or not self._recent:
            return None
        end = self._recent[-1][0]
        start = max(self._since, end - RATE_WINDOW_NS)
        count = sum(n for t, n in self._recent if t > start)
        return count / ((end - start) / 1e9) if end > start else None

    def text(self) -> str:
        """What the request that is shown has generated until now; empty where the model has no tokeniser."""
        return self._shown.text() if self._shown is not None else ""
