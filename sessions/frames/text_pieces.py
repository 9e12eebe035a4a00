"""Responses whose text came without token IDs, in pieces: what is known of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sessions.disk.frame_schema import FrameRow
from sessions.disk.records import RequestEnded, Text, Tokens

NO_IDS = "the server gave text without token IDs"
Key = tuple[str, int, int, int]  # method, block, attempt, request


@dataclass(slots=True)
class _Pieces:
    times: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tokens: int | None = None  # None unless the request ended well


class TextPieces:
    """Feeds on a session's text. A piece is of one token at least, so that as many pieces as tokens are one each."""

    def __init__(self) -> None:
        self._of: dict[Key, _Pieces] = {}
        self._beside: dict[Key, list[str]] = {}

    def add(self, record: Text, attempt: int) -> None:
        """Take in the pieces of one record."""
        key = (record.method, record.block, attempt, record.request)
        if record.beside:
            self._beside.setdefault(key, []).extend(record.texts)
            return
        pieces = self._of.setdefault(key, _Pieces())
        pieces.times += record.times
        pieces.texts += record.texts

    def end(self, record: RequestEnded, attempt: int) -> Tokens | None:
        """The tokens of a request that is over, where the time of each is known."""
        pieces = self._of.get((record.method, record.block, attempt, record.request))
        if pieces is None or record.finish in ("error", "stopped"):
            return None
        pieces.tokens = record.output_tokens
        if len(pieces.times) != record.output_tokens:
            return None
        return Tokens(
            t=pieces.times[-1],
            method=record.method,
            block=record.block,
            request=record.request,
            index=0,
            times=pieces.times,
            ids=[None] * len(pieces.times),
        )

    def text(self, key: Key) -> str | None:
        """All text of a response; None where it came as IDs alone."""
        texts = self._of[key].texts if key in self._of else self._beside.get(key)
        return None if texts is None else "".join(texts)

    def without_ids(self, key: Key) -> bool:
        """Whether text is all that came."""
        return key in self._of

    def uneven(self, key: Key) -> str:
        """Why it is not known when each token of a response came; "" where it is, or nothing is."""
        pieces = self._of.get(key)
        if pieces is None or pieces.tokens is None or pieces.tokens == len(pieces.times):
            return ""
        return f"the server sent {pieces.tokens} tokens in {len(pieces.times)} pieces: when each came is not known"

    def counted(self) -> Iterator[FrameRow]:
        """What metrics.per_request gives of tokens, of the responses that have no rows among them."""
        for key, pieces in self._of.items():
            if pieces.times and self.uneven(key):
                method, block, attempt, request = key
                yield {
                    "method": method,
                    "block": block,
                    "attempt": attempt,
                    "request": request,
                    "sequence": 0,
                    "output_tokens": pieces.tokens,
                    "first_token_ns": pieces.times[0],
                    "end_ns": pieces.times[-1],
                }
