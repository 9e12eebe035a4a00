"""Anchors the monotonic clock, which timestamps everything, to the time of day."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path

from probes.base.answer import answer

TRIES = 5


@dataclass(frozen=True, slots=True)
class ClockAnchors:
    """One instant on both clocks, nanoseconds: `time.perf_counter_ns` and the time of day since 1970, UTC.

    uncertainty_ns: half the time between the two monotonic readings around the other. boot_id: monotonic times of
    another boot cannot be compared (None: not reported by this system).
    """

    monotonic_ns: int
    realtime_ns: int
    uncertainty_ns: int
    boot_id: str | None
    hostname: str


def clock_anchors() -> ClockAnchors:
    """Read both clocks now, the closest of a few tries."""
    tries = []
    for _ in range(TRIES):
        before = time.perf_counter_ns()
        realtime = time.time_ns()
        after = time.perf_counter_ns()
        tries.append((after - before, (before + after) // 2, realtime))
    width, monotonic, realtime = min(tries)
    return ClockAnchors(monotonic, realtime, width // 2, boot_id(), answer(socket.gethostname) or "")


def boot_id(root: Path = Path("/")) -> str | None:
    """The kernel's boot ID, None if not reported."""
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None
