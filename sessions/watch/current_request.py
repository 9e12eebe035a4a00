"""The request under way, or the last one: its tokens, its text and the rate at which they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from sessions.disk.records import RequestEnded, RequestStarted, Tokens
from sessions.frames.counting import request_counts

RATE_WINDOW_NS: Final = 1_000_000_000
CURVE_POINTS: Final = 600

Decoder = Callable[[Sequence[int]], str]  # the next ids in, the next piece of text out


class CurrentRequest:
    """`begun` is None between blocks; what the last request generated stays to be seen until the next one begins."""

    def __init__(self) -> None:
        self.begun: RequestStarted | None = None
        self.tokens = 0
        self.curve: deque[float] = deque(maxlen=CURVE_POINTS)  # its rate over time, oldest first
        self.new_decoder: Callable[[], Decoder] | None = None
        self._decode: Decoder | None = None
        self._sequences: dict[int, tuple[int, int, int]] = {}  # tokens, first and last time
        self._text: list[str] = []
        self._undecoded: list[int] = []
        self._recent: deque[tuple[int, int]] = deque()

    def start(self, record: RequestStarted) -> None:
        self.begun = record
        self.tokens = 0
        self._sequences.clear()
        self._text.clear()
        self._undecoded.clear()
        self._recent.clear()
        self._decode = self.new_decoder() if self.new_decoder else None

    def leave(self) -> None:
        """The block is over."""
        self.begun = None

    def take(self, record: Tokens) -> None:
        """Take tokens in; those of another request are ignored."""
        if not record.times or not self._is_of(record):
            return
        first, last, count = record.times[0], record.times[-1], len(record.ids)  # the wire refuses any other order
        known = self._sequences.get(record.sequence)
        self._sequences[record.sequence] = (known[0] + count, known[1], last) if known else (count, first, last)
        self.tokens += count
        self._undecoded += record.ids  # into text once somebody looks: of an old journal only the last request is seen
        self._recent.append((last, count))
        while len(self._recent) > 1 and self._recent[0][0] < last - RATE_WINDOW_NS:
            self._recent.popleft()
        rate = self.tok_s_now()
        if rate is not None:
            self.curve.append(rate)

    def end(self, record: RequestEnded) -> Iterator[tuple[float, float, int]]:
        """(tokens/s, TTFT in s, tokens) of each of its responses that counts, if the block does."""
        begun = self.begun
        if begun is None or not self._is_of(record):
            return
        for count, first, last in self._sequences.values():
            tok_s = count / ((last - begun.t) / 1e9) if last > begun.t else None
            if tok_s is not None and request_counts(begun.warmup, record.finish, tok_s):
                yield tok_s, (first - begun.t) / 1e9, count
        self._sequences.clear()

    def _is_of(self, record: Tokens | RequestEnded) -> bool:
        begun = self.begun
        return begun is not None and (record.method, record.block, record.request) == (
            begun.method,
            begun.block,
            begun.request,
        )

    def tok_s_now(self) -> float | None:
        """Tokens over the last second, or since the request began where that is less long ago."""
        if self.begun is None or not self._recent:
            return None
        end = self._recent[-1][0]
        start = max(self.begun.t, end - RATE_WINDOW_NS)
        count = sum(n for t, n in self._recent if t > start)
        return count / ((end - start) / 1e9) if end > start else None

    def text(self) -> str:
        """What it has generated until now; empty where the model has no tokeniser."""
        if self._decode is not None and self._undecoded:
            self._text.append(self._decode(self._undecoded))
        self._undecoded.clear()
        return "".join(self._text)
