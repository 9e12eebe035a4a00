"""The requests of a calibration in their conditions, and the rates of those that count.

A request, or a point of a load, takes its turn under the condition that was drawn for it. One that began before its
condition was in place does not count.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from itertools import pairwise

from sessions.verdict.observer_effect import Slot, drawn_order


class Turns:
    """The turns of a block of the runner at a time; `slots` are those of all blocks until now that count."""

    def __init__(self, conditions: Sequence[str], seed: int) -> None:
        self._conditions, self._seed = conditions, seed
        self.slots: list[Slot] = []
        self._order: dict[int, tuple[int, str]] = {}  # request, or place of a point: its round and condition
        self._after: dict[int, int] = {}
        self._ready_ns = 0
        self._began_ns: int | None = None
        self._newest: tuple[int, int] = (0, 0)  # tokens of the turn, and the last one's time

    def deal(self, block: int, places: Sequence[int]) -> None:
        """Draw the conditions of a block's requests, or points."""
        size = 2 * len(self._conditions)
        rounds = len(places) // size
        self._order = {}
        for number in range(rounds):
            order = drawn_order(self._conditions, self._seed + 1000 * block + number)
            for place, condition in enumerate(order):
                self._order[places[number * size + place]] = (block * rounds + number, condition)
        self._after = dict(pairwise(places))

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, place: int) -> bool:
        return place in self._order

    def under(self, conditions: Collection[str]) -> list[int]:
        """The block's requests, or points, under these conditions."""
        return [place for place, (_, condition) in self._order.items() if condition in conditions]

    @property
    def first(self) -> str:
        """The condition of the block's first."""
        return next(iter(self._order.values()))[1]

    def following(self, place: int) -> str:
        """The condition of the one after it; "" after the last."""
        return self._order.get(self._after.get(place, -1), (0, ""))[1]

    @property
    def since_ns(self) -> int:
        """When the present condition was in place."""
        return self._ready_ns

    def ready(self) -> None:
        """The condition of the next is in place."""
        self._ready_ns = time.perf_counter_ns()

    @property
    def begun(self) -> bool:
        return self._began_ns is not None

    def begin(self, t_ns: int | None) -> None:
        """A turn begins; None: it will with its first request."""
        self._began_ns, self._newest = t_ns, (0, 0)

    def add(self, tokens: int, last_ns: int) -> None:
        """Tokens of the turn have come."""
        self._newest = (self._newest[0] + tokens, last_ns)

    def end(self, place: int, well: bool) -> str | None:
        """A turn is over: its condition, where it counts because all of it went `well`."""
        number, condition = self._order[place]
        count, last_ns = self._newest
        if not (well and count and self._began_ns is not None and self._ready_ns <= self._began_ns < last_ns):
            return None
        self.slots.append(Slot(number, condition, count / ((last_ns - self._began_ns) / 1e9)))
        return condition
