"""A load: the requests of a point, handed to an engine as they are due, and what comes of them sent on the wire."""

from __future__ import annotations

import random
from array import array
from binascii import b2a_base64
from collections import deque
from itertools import accumulate

from kasoku_failure import UnsupportedError

FLUSH_INTERVAL_NS = 50_000_000
UNKNOWN = -1  # on the wire, an id that is not known


class Point:
    """How requests arrive: one of `batch`, `concurrency` and `rate` (requests a second, with `burstiness`) is set, or
    none for one at a time. `place` is its own in the plan; `depth` tokens are in the cache before a request begins.
    """

    __slots__ = ("batch", "burstiness", "concurrency", "depth", "most", "name", "place", "rate", "requests", "seed")

    def __init__(self, entry: dict, requests: list) -> None:
        self.place, self.name = entry["place"], entry["name"]
        self.batch, self.concurrency, self.rate = entry.get("batch"), entry.get("concurrency"), entry.get("rate")
        self.burstiness, self.seed = entry.get("burstiness") or 1.0, entry.get("seed")
        self.requests = requests
        self.depth = max((request.depth for request in requests), default=0)
        # in flight at once: in an open loop it may come to that
        self.most = len(requests) if self.rate else self.batch or self.concurrency or 1

    def due_after_s(self, count: int, warmup: bool) -> list:
        """Seconds from the beginning until each of so many requests is due, in an open loop; [] where each is due as
        soon as there is room. The gaps are gamma-distributed with a mean of 1/rate; shape 1 is a Poisson process.
        """
        if not self.rate:
            return []
        drawn = random.Random("%s %s" % (self.seed, warmup))  # noqa: S311 - gaps, not a secret
        gaps = [drawn.gammavariate(self.burstiness, 1 / (self.rate * self.burstiness)) for _ in range(count)]
        gaps[:1] = [0.0]
        return list(accumulate(gaps))


class Stream:
    """One request's `emit` under a load; without one, that is kasoku_wire.TokenStream."""

    def __init__(self, load: object, request: object) -> None:
        self._load, self._request = load, request
        self.flush = load.flush

    def __call__(self, ids: list, sequence: int = 0) -> None:
        if sequence:
            raise UnsupportedError("An engine that answers with several sequences cannot serve a load.")
        self._load.emit(self._request, ids)

    def mark(self, fetch: object) -> None:
        self._load.mark([self._request], lambda count: [fetch(count)])

    def text(self, words: str, beside: bool = False) -> None:
        self._load.text(self._request, words, beside)

    def counted(self, tokens: int, prompt_tokens: int | None) -> None:
        self._load.counted(self._request, tokens, prompt_tokens)


class Flight:
    """A request in flight: what has come and was not sent yet, and how many tokens were."""

    __slots__ = ("ids", "request", "sent", "times")

    def __init__(self, request: object) -> None:
        self.request, self.sent = request, 0
        self.times, self.ids = array("q"), array("q")


class Load:
    """Requests for an engine's `serve`, on its one thread: it takes those that are due, and says what comes of each.

    `cached_prompt_tokens` and `speculated` of a request may be set before it ends, where the engine knows them.
    """

    def __init__(self, point: Point, requests: list, wire: object) -> None:
        self._wire, self._clock = wire, wire.clock
        self.point, self._waiting = point, deque(requests)
        self.seed = requests[0].seed if requests else 0  # for an engine that draws for all of them
        began = self._clock()
        due = point.due_after_s(len(requests), bool(requests and requests[0].warmup))
        self._due = deque(began + int(seconds * 1e9) for seconds in due)
        self._open: dict = {}  # number -> Flight
        self._pieces: dict = {}  # (number, beside tokens) -> [(time, text)], not sent yet
        self._counted: dict = {}  # number -> (tokens, prompt tokens), as whoever generated text has counted them
        self._marks: list = []  # (time, numbers), not fetched yet
        self._fetch: object = None
        self._next_flush = began + FLUSH_INTERVAL_NS

    @property
    def over(self) -> bool:
        """Whether every request has ended."""
        return not self._waiting and not self._open

    def coming(self) -> list:
        """The requests that begin next, as soon as they are due: for what is done before the clock starts."""
        return [self._waiting[place] for place in range(min(max(0, self._room()), len(self._waiting)))]

    def take(self, most: int | None = None) -> list:
        """The requests that begin now, at most so many: the engine is to work on them at once. Often none."""
        room = self._room()
        if most is not None:
            room = min(room, most)
        taken = []
        now = self._clock()
        while self._waiting and len(taken) < room and (not self._due or self._due[0] <= now):
            taken.append(self._waiting.popleft())
            self._begin(taken[-1], now, self._due.popleft() if self._due else None)
        return taken

    def wait_s(self) -> float | None:
        """Seconds until the next request is due: 0 where one is; None where none is before another ends."""
        if not self._waiting or not self._room():
            return None
        return max(0.0, (self._due[0] - self._clock()) / 1e9) if self._due else 0.0

    def emit(self, request: object, ids: list) -> None:
        """New ids of a request, never the prompt's, have just reached the host; None is one that is not known."""
        now = self._clock()
        if self._marks:
            self._settle()
        flight = self._open.get(request.number)
        if flight is None:
            raise RuntimeError("The engine gave tokens of request %d, which is not in flight." % request.number)
        if len(ids) == 1 and ids[0] is not None:
            flight.times.append(now)
            flight.ids.append(ids[0])
        else:
            flight.times.extend([now] * len(ids))
            flight.ids.extend([UNKNOWN if each is None else each for each in ids])
        if now >= self._next_flush:
            self.flush()

    def stream_of(self, request: object) -> Stream:
        """What `generate` calls with the ids of that request."""
        return Stream(self, request)

    def mark(self, requests: list, fetch: object) -> None:
        """There is one more token of each of these as of now; a flush gets the ids of those n since by `fetch(n)`: a
        list for each request, of n ids or, where it stopped before, of fewer.
        """
        now = self._clock()
        self._marks.append((now, [request.number for request in requests]))
        self._fetch = fetch
        if now >= self._next_flush:
            self.flush()

    def text(self, request: object, words: str, beside: bool = False) -> None:
        """A piece of text has arrived, of one token or more, or beside tokens."""
        now = self._clock()
        self._pieces.setdefault((request.number, beside), []).append((now, words))
        if now >= self._next_flush:
            self.flush()

    def counted(self, request: object, tokens: int, prompt_tokens: int | None) -> None:
        """How many tokens the text was, and the prompt, as whoever generated it has counted."""
        self._counted[request.number] = (tokens, prompt_tokens)

    def end(self, request: object, finish: str | None = None) -> None:
        """A request is over: `length`, `eos`, or None to derive it from the number of its tokens."""
        self._end(request, finish, self._clock())

    def fail(self, request: object, why: str) -> None:
        """A request has failed by itself: the others go on."""
        self.flush()
        self._say_end(request, "error", self._clock(), why)

    def end_all(self, requests: list) -> None:
        """All of these are over, at one moment."""
        now = self._clock()
        self.flush()
        for request in requests:
            self._end(request, None, now)

    def tell(self) -> None:
        """All are over: what was not said of them yet is said."""

    def break_off(self) -> None:
        """The engine has failed: what is in flight ends here, and the rest never begins."""
        self._waiting.clear()
        now = self._clock()
        try:
            self.flush()
        except Exception:  # a device that has failed does not hand out its ids either
            self._marks.clear()
        for flight in list(self._open.values()):
            self._say_end(flight.request, "error", now)

    def flush(self) -> None:
        """Send what has not been sent. Exceptions of a `fetch` pass through, and its tokens are not sent."""
        pieces, self._pieces = self._pieces, {}
        self._send_texts(pieces)
        if self._marks:
            self._settle()
        self._send_tokens(self._open.items())
        self._next_flush = self._clock() + FLUSH_INTERVAL_NS

    def _flush_of(self, number: int) -> None:
        """The same of one request, which ends: to look at all of them then would cost a load more than its wire."""
        if self._marks:
            self.flush()
            return
        keys = [(number, beside) for beside in (False, True) if (number, beside) in self._pieces]
        self._send_texts({key: self._pieces.pop(key) for key in keys})
        self._send_tokens([(number, self._open[number])])

    def _send_texts(self, pieces: dict) -> None:
        for (number, beside), each in pieces.items():
            times, texts = zip(*each)
            self._wire.send("text", request=number, times=times, texts=texts, beside=beside)

    def _send_tokens(self, flights: object) -> None:
        numbers: list = []
        firsts: list = []
        counts: list = []
        times: list = []
        ids: list = []
        for number, flight in flights:
            count = len(flight.ids)
            if count:
                numbers.append(number)
                firsts.append(flight.sent)
                counts.append(count)
                times.append(flight.times)
                ids.append(flight.ids)
                flight.sent += count
                flight.times, flight.ids = array("q"), array("q")
        if numbers:
            self._wire.send_line(
                '{"k":"many","requests":%s,"indexes":%s,"counts":%s,"times":"%s","ids":"%s"}'
                % (numbers, firsts, counts, packed(times), packed(ids))
            )

    def _settle(self) -> None:
        """Fetch the ids of the marks: of a request they are all before ids that are handed over."""
        marks, self._marks = self._marks, []
        moments = [moment for moment, _ in marks]
        for number, ids in zip(marks[0][1], self._fetch(len(marks))):
            flight = self._open[number]
            flight.times.extend(moments[: len(ids)])
            flight.ids.extend(ids)

    def _room(self) -> int:
        """How many may begin: in a batch all at once, and then none before all have ended."""
        point = self.point
        if point.rate:
            return len(self._waiting)
        if point.batch:
            return 0 if self._open else point.batch
        return (point.concurrency or 1) - len(self._open)

    def _begin(self, request: object, now: int, due: int | None) -> None:
        self._open[request.number] = Flight(request)
        self._wire.send(
            "request",
            t=now,
            request=request.number,
            warmup=request.warmup,
            prompt_index=request.prompt_index,
            prompt_tokens=len(request.prompt_ids),
            batch=self.point.batch or 1,
            place=self.point.place,
            **({} if due is None else {"scheduled_ns": due}),
        )

    def _end(self, request: object, finish: str | None, now: int) -> None:
        self._flush_of(request.number)
        tokens = self._tokens_of(request)
        if tokens == 0:
            raise RuntimeError("The engine generated nothing for request %d." % request.number)
        if finish is None:
            finish = "length" if tokens >= request.max_new_tokens else "eos"
        self._say_end(request, finish, now)

    def _tokens_of(self, request: object) -> int:
        return self._counted.get(request.number, (self._open[request.number].sent,))[0]

    def _say_end(self, request: object, finish: str, now: int, why: str = "") -> None:
        tokens = self._tokens_of(request)
        cached, counted = request.cached_prompt_tokens, self._counted.get(request.number, (tokens, None))[1]
        del self._open[request.number]
        self._wire.send(
            "request_end",
            t=now,
            request=request.number,
            finish=finish,
            output_tokens=tokens,
            **({} if cached is None else {"cached_prompt_tokens": cached}),
            **({} if finish == "error" else request.speculated),
            **({"error": why} if why else {}),
            **({} if counted is None else {"counted_prompt_tokens": counted}),
        )


def packed(numbers: list) -> str:
    """Arrays of numbers as the wire has them: digit by digit they would cost more than all else of a token."""
    return b2a_base64(b"".join(numbers), newline=False).decode()
