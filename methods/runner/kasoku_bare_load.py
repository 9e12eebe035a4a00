"""A load as a bare loop takes it: every delta is kept with its time, and told once all requests are over.

`kasoku calibrate` compares the wire with it. What is kept are numbers in arrays: with an object for each delta, Python
would look for garbage among all of an engine's objects in the middle of a loop.
"""

from __future__ import annotations

from array import array

from kasoku_failure import UnsupportedError
from kasoku_load import UNKNOWN, Load

OTHER = -1  # in place of a delta's length: something else than ids


class BareLoad(Load):
    """What an engine does is kept as it was called, and afterwards done by a Load, at the times at which it was."""

    def __init__(self, point: object, requests: list, wire: object) -> None:
        super().__init__(point, requests, wire)
        self._times, self._numbers, self._lengths, self._ids = (array("q") for _ in range(4))  # a place for each call
        self._calls: list = []  # (call, arguments) of those that have no ids
        self._of: dict = {}  # number -> request

    def emit(self, request: object, ids: list) -> None:
        self._times.append(self._clock())
        self._numbers.append(request.number)
        self._lengths.append(len(ids))
        self._ids.extend(ids if None not in ids else [UNKNOWN if each is None else each for each in ids])

    def mark(self, requests: list, fetch: object) -> None:  # noqa: ARG002
        raise UnsupportedError("This engine hands out its ids in steps, not one request at a time.")

    def text(self, request: object, words: str, beside: bool = False) -> None:
        self._keep(self._clock(), Load.text, request, words, beside)

    def counted(self, request: object, tokens: int, prompt_tokens: int | None) -> None:
        self._keep(self._clock(), Load.counted, request, tokens, prompt_tokens)

    def fail(self, request: object, why: str) -> None:
        now = self._clock()
        del self._open[request.number]
        self._keep(now, Load.fail, request, why)

    def end_all(self, requests: list) -> None:
        now = self._clock()
        for request in requests:
            self._end(request, None, now)

    def tell(self) -> None:
        clock, calls, first = self._clock, iter(self._calls), 0
        kept = self._times, self._numbers, self._lengths
        self._open.clear()
        try:
            for now, number, length in zip(*kept):
                self._clock = lambda now=now: now
                if length == OTHER:
                    call, arguments = next(calls)
                    call(self, self._of[number], *arguments)
                else:
                    Load.emit(self, self._of[number], list(self._ids[first : first + length]))
                    first += length
        finally:
            self._clock, self._calls = clock, []
            for each in (*kept, self._ids):
                del each[:]

    def break_off(self) -> None:
        self.tell()
        super().break_off()

    def _begin(self, request: object, now: int, due: int | None) -> None:
        self._open[request.number] = None
        self._of[request.number] = request
        self._keep(now, Load._begin, request, now, due)

    def _end(self, request: object, finish: str | None, now: int) -> None:
        del self._open[request.number]
        self._keep(now, Load._end, request, finish, now)

    def _keep(self, now: int, call: object, request: object, *arguments: object) -> None:
        self._times.append(now)
        self._numbers.append(request.number)
        self._lengths.append(OTHER)
        self._calls.append((call, arguments))
