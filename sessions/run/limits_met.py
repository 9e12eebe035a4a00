"""What the limits of a control group cost in a block's timed part, as flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from probes.host.cgroup import CgroupCounts

THROTTLED: Final = "throttled by a CPU quota"
NO_MEMORY_LEFT: Final = "memory limit met"


def limits_met(before: CgroupCounts, after: CgroupCounts) -> Iterator[tuple[str, str]]:
    """(flag, cause) for each limit that was met between two readings of the kernel's counters."""
    if (periods := after.throttled_periods - before.throttled_periods) > 0:
        waited = after.throttled_s - before.throttled_s
        yield (
            THROTTLED,
            f"its control group's quota was used up in {periods} periods of the timed part,"
            f" for {waited:.2f} s summed over CPUs",
        )
    if (hits := after.memory_limit_hits - before.memory_limit_hits) > 0:
        yield NO_MEMORY_LEFT, f"its control group had no memory left {hits} times in the timed part"
