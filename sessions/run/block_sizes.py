"""How many timed requests a block has where a session measures until it is decided.

Where a method is fast, the plan's few requests take a moment and loading takes all the rest. Its later blocks then have
as many as `LEAST_TIMED_S` takes at the pace of its first block that counts; by time, so that slow methods have no more.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from sessions.disk.plan import PlannedBlock
from sessions.disk.records import AnyRecord, BlockEnded, BlockPhase, BlockStarted, RequestStarted
from sessions.frames.counting import block_counts

LEAST_TIMED_S: Final = 2.5
MOST_REQUESTS: Final = 200


class BlockSizes:
    """Feeds on the journal's records. No two blocks of a method get a request of the same number."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[int, set[int]]] = {}  # by method and block, those of timed requests
        self._given: dict[str, dict[int, set[int]]] = {}  # and those of blocks that may not have begun yet
        self._timed_ns: dict[tuple[str, int], int] = {}  # when the timed part began
        self._took_ns: dict[tuple[str, int], int] = {}
        self._each_s: dict[str, float] = {}  # a request of a method, in its first block that counts

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        match record:
            case BlockStarted():
                self._numbers.setdefault(record.method, {})[record.block] = set()
            case RequestStarted() if not record.warmup:
                self._numbers.setdefault(record.method, {}).setdefault(record.block, set()).add(record.request)
            case BlockPhase() if record.phase == "timed":
                self._timed_ns[record.method, record.block] = record.t
            case BlockPhase() if record.phase == "evidence":
                began = self._timed_ns.get((record.method, record.block), record.t)
                self._took_ns[record.method, record.block] = record.t - began
            case BlockEnded() if block_counts(record.status):
                requests = len(self._numbers.get(record.method, {}).get(record.block, ()))
                took_ns = self._took_ns.get((record.method, record.block), 0)
                if requests and took_ns:
                    self._each_s.setdefault(record.method, took_ns / 1e9 / requests)
            case _:
                pass

    def sized(self, row: PlannedBlock, enough: bool) -> PlannedBlock:
        """The block with the requests that it is to have: as planned, or more of them where `enough` is asked for.

        Under a load they are as planned.
        """
        if row.points:
            return row
        size = len(row.requests)
        if enough and (each_s := self._each_s.get(row.method)) is not None:
            size = max(size, min(MOST_REQUESTS, math.ceil(LEAST_TIMED_S / each_s)))
        taken = {
            number
            for known in (self._numbers, self._given)
            for block, numbers in known.get(row.method, {}).items()
            if block != row.block
            for number in numbers
        }
        if size != len(row.requests) or not taken.isdisjoint(row.requests):
            first = max(taken, default=row.requests[0] - 1) + 1
            row = replace(row, requests=list(range(first, first + size)))
        self._given.setdefault(row.method, {})[row.block] = set(row.requests)
        return row
