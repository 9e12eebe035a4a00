"""What a method's requests reached, each over the time it took: what a plot of all methods over time is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_LAPS: Final = 256


@dataclass(frozen=True, slots=True)
class Lap:
    """One timed request, or several one after another: from when to when (seconds of the session, without the pauses
    between its stretches), and its tokens/s."""

    start_s: float
    end_s: float
    tok_s: float


class Laps:
    """The laps of one method, oldest first. At `most`, an even number, two neighbours become one each."""

    def __init__(self, most: int = MOST_LAPS) -> None:
        self._most = most
        self._laps: list[Lap] = []
        self._each = 1  # how many requests are in a lap
        self._open: list[Lap] = []

    def add(self, lap: Lap) -> None:
        self._open.append(lap)
        if len(self._open) < self._each:
            return
        self._laps.append(_joined(self._open))
        self._open = []
        if len(self._laps) == self._most:
            self._laps = [_joined(self._laps[place : place + 2]) for place in range(0, self._most, 2)]
            self._each *= 2

    def shown(self) -> tuple[Lap, ...]:
        """All of them."""
        return (*self._laps, *self._open)


def _joined(laps: list[Lap]) -> Lap:
    """The mean rate, over the time from the first to the last."""
    if len(laps) == 1:
        return laps[0]
    return Lap(laps[0].start_s, laps[-1].end_s, sum(lap.tok_s for lap in laps) / len(laps))
