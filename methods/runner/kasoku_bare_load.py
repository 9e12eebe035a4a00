"""A load as a bare loop takes it: every delta is kept with its time, and told once all requests are over.

`kasoku calibrate` compares the wire with it.
"""

from __future__ import annotations

from kasoku_failure import UnsupportedError
from kasoku_load import Load


class BareLoad(Load):
    """What an engine does is kept as it was called, and afterwards done by a Load, at the times at which it was."""

    def __init__(self, point: object, requests: list, wire: object) -> None:
        super().__init__(point, requests, wire)
        self._kept: list = []

    def emit(self, request: object, ids: list) -> None:
        self._kept.append((self._clock(), Load.emit, (request, ids[:])))

    def mark(self, requests: list, fetch: object) -> None:  # noqa: ARG002
        raise UnsupportedError("This engine hands out its ids in steps, not one request at a time.")

    def text(self, request: object, words: str, beside: bool = False) -> None:
        self._kept.append((self._clock(), Load.text, (request, words, beside)))

    def counted(self, request: object, tokens: int, prompt_tokens: int | None) -> None:
        self._kept.append((self._clock(), Load.counted, (request, tokens, prompt_tokens)))

    def tell(self) -> None:
        clock, kept, self._kept = self._clock, self._kept, []
        self._open.clear()
        try:
            for now, call, arguments in kept:
                self._clock = lambda now=now: now
                call(self, *arguments)
        finally:
            self._clock = clock

    def break_off(self) -> None:
        self.tell()
        super().break_off()

    def _begin(self, request: object, now: int, due: int | None) -> None:
        self._open[request.number] = None
        self._kept.append((now, Load._begin, (request, now, due)))

    def _end(self, request: object, finish: str | None, now: int) -> None:
        del self._open[request.number]
        self._kept.append((now, Load._end, (request, finish, now)))
