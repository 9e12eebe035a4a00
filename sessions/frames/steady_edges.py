"""Where the steady part of a point begins and ends, for frames and viewers alike. Standard library only."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def loop_edges(starts_ns: Sequence[int], ends_ns: Sequence[int], slots: int) -> tuple[int, int] | None:
    """From when `slots` requests are first in flight to the first end once the last has begun; None if they never are.

    From then on fewer are in flight, and none waits.
    """
    starts, ends = sorted(starts_ns), sorted(ends_ns)
    full = next((start for place, start in enumerate(starts) if place + 1 - bisect_right(ends, start) >= slots), None)
    if full is None:
        return None
    later = bisect_left(ends, starts[-1])
    return (full, ends[later]) if later < len(ends) else None


def open_edges(due_ns: Sequence[int], ends_ns: Sequence[int]) -> tuple[int, int] | None:
    """In an open loop, which has no slots: from the first end of a request to when the last was due.

    It begins with an empty server, and until a first one ends, their number only grows: where all take equally long,
    that is when it has reached its mean (Little's law). None where none ends before the last is due.
    """
    begin, end = min(ends_ns, default=None), max(due_ns)
    return (begin, end) if begin is not None and begin < end else None
