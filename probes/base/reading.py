"""One value sampled from the machine, or the reason why it is missing."""

from __future__ import annotations

from typing import Final, NamedTuple

OK: Final = "ok"


class Reading(NamedTuple):
    """One metric of one source at one instant. A tuple, since some 150 are made per second during a measurement.

    source: "gpu0", "gpu1"… (NVML's order, which is the PCI order), "host" or "runner" (the measured process tree).
    metric, unit: the names listed in docs/telemetry.md.
    value: None whenever `status` is not "ok"; never 0 for something unread.
    t_ns: midpoint of the call, nanoseconds of `time.perf_counter_ns`.
    call_us: what the call cost. Where one call gives several values the first carries the cost and the others 0, so
        that costs can be summed.
    status: "ok", or a sentence that says why the value is missing.
    """

    source: str
    metric: str
    unit: str
    value: float | None
    t_ns: int
    call_us: float
    status: str


def printable(text: str, limit: int = 200) -> str:
    """`text` without control characters and no longer than `limit`: drivers and process names may contain anything."""
    return "".join(character if character.isprintable() else "?" for character in text[:limit])
