"""A clock that moves only when told to, or when somebody waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

SECOND = 1_000_000_000


class FakeClock:
    """`wait_until` jumps to the deadline plus what `oversleep(deadline)` says; sets `stop` at `end_ns`."""

    def __init__(self, end_ns: int = 10 * SECOND, oversleep: Callable[[int], int] = lambda deadline: 0) -> None:
        self.time_ns = 0
        self.end_ns = end_ns
        self.oversleep = oversleep
        self.woken: list[int] = []

    def now_ns(self) -> int:
        return self.time_ns

    def spend(self, nanoseconds: int) -> None:
        self.time_ns += nanoseconds

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> None:
        self.time_ns = max(self.time_ns, deadline_ns + self.oversleep(deadline_ns))
        if self.time_ns >= self.end_ns:
            stop.set()
        else:
            self.woken.append(self.time_ns)
