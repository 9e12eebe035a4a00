"""The throughput of a method's requests in flight over the session's time: what a plot of a load is made of."""

from __future__ import annotations

from sessions.watch.laps import Lap
from sessions.watch.time_line import Steps


class Throughput:
    """The mean rate of all requests together in even steps of time, in bounded memory."""

    def __init__(self) -> None:
        self._steps = Steps()
        self._shown: tuple[Lap, ...] | None = None

    def add(self, second: float, tok_s: float) -> None:
        """The rate at a moment of the session."""
        self._steps.add(second, tok_s)
        self._shown = None

    def shown(self) -> tuple[Lap, ...]:
        """A lap for each step in which tokens came, oldest first; worked out once until more come."""
        if self._shown is None:
            each = self._steps.each_s
            steps = zip(*self._steps.copied(), strict=True)
            self._shown = tuple(
                Lap(place * each, (place + 1) * each, total / count)
                for place, (total, count) in enumerate(steps)
                if count
            )
        return self._shown
