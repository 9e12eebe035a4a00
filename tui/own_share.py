"""How much of a core the workbench takes from what is being measured beside it."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST = 0.13  # of a core, in the long run
SAVED_S = 0.3  # of CPU time at most, for a burst: the first paint, a key
OWED_S = 0.15
SLOWEST_INTERVAL_S = 0.5


class OwnShare:
    """Says when another live frame may be drawn: as often as is asked, while this process stays within its share.

    What a frame costs depends on the machine, the terminal's size and how many requests it shows, so it is not guessed:
    the process's own CPU time is looked at. Two frames a second are drawn in any case.
    """

    def __init__(
        self, now: Callable[[], float] = time.monotonic, used: Callable[[], float] = time.process_time
    ) -> None:
        self._now, self._used = now, used
        self._looked, self._was_used = now(), used()
        self._drawn = float("-inf")
        self._left = SAVED_S

    def is_free(self) -> bool:
        """Whether another live frame may be drawn now; if so, it is taken to be."""
        now, used = self._now(), self._used()
        earned = MOST * (now - self._looked) - (used - self._was_used)
        self._left = max(-OWED_S, min(SAVED_S, self._left + earned))
        self._looked, self._was_used = now, used
        if self._left <= 0 and now - self._drawn < SLOWEST_INTERVAL_S:
            return False
        self._drawn = now
        return True
