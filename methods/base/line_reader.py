"""Whole lines out of bytes that come in pieces; memory is bounded by the longest line allowed."""

from __future__ import annotations

import os
from typing import Final

READ_BYTES: Final = 1 << 18


class LineSplitter:
    """`feed` takes the pieces, whatever they come from, and gives the lines that each completes.

    `oversized` counts the lines longer than `limit_bytes`, which are thrown away.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._rest = b""
        self._skipping = False
        self.oversized = 0

    @property
    def rest(self) -> bytes:
        """The line that is not complete yet."""
        return self._rest

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines, without their ends, that `chunk` completes."""
        if self._skipping:
            _, newline, chunk = chunk.partition(b"\n")
            if not newline:
                return []
            self._skipping = False
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > self._limit:
            self._rest, self._skipping = b"", True
            self.oversized += 1
        kept = [line for line in lines if len(line) <= self._limit]
        self.oversized += len(lines) - len(kept)
        return kept


class PipeReader:
    """The lines of a pipe, which becomes non-blocking. `ended` once its last writer is gone."""

    def __init__(self, descriptor: int, limit_bytes: int) -> None:
        self.descriptor = descriptor
        self._lines = LineSplitter(limit_bytes)
        self.ended = False
        os.set_blocking(descriptor, False)

    @property
    def oversized(self) -> int:
        return self._lines.oversized

    @property
    def rest(self) -> bytes:
        """What came after the last whole line."""
        return self._lines.rest

    def read(self) -> list[bytes]:
        """The lines that one read completes; none where nothing came, or it has ended."""
        if self.ended:
            return []
        try:
            chunk = os.read(self.descriptor, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        self.ended = not chunk
        return self._lines.feed(chunk)
