"""The readings that a time line shows below the requests: which they are, and what several sources make together."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

Together = Literal["sum", "mean", "highest"]


@dataclass(frozen=True, slots=True)
class TrackKind:
    """One reading: `title`, with its unit; `word`, for narrow screens; and the telemetry it is drawn from.

    Of all sources whose names begin so, `together` says what is shown.
    """

    title: str
    word: str
    sources: str
    metric: str
    together: Together = "sum"


TRACKS: Final = (
    TrackKind("GPU power, W", "power", "gpu", "power_w"),
    TrackKind("VRAM used", "VRAM", "gpu", "memory_used_bytes"),
    TrackKind("SM clock, MHz", "clock", "gpu", "sm_clock_mhz", "highest"),
    TrackKind("GPU utilisation, %", "util", "gpu", "utilisation_percent", "mean"),
    TrackKind("DRAM activity, %", "DRAM", "gpu", "dram_active_percent", "mean"),
    TrackKind("host CPU, %", "CPU", "host", "cpu_percent"),
    TrackKind("process RSS", "RSS", "runner", "rss_bytes"),
)


@dataclass(frozen=True)
class Track:
    """A reading over the session's seconds from 0 on, in steps of `each_s` seconds.

    `steps` has for each source the sums of what was read in each step, and how often it was: they are put together
    only where they are drawn.
    """

    kind: TrackKind
    each_s: float
    steps: tuple[tuple[array[float], array[int]], ...]

    @cached_property
    def values(self) -> tuple[float | None, ...]:
        """A value for each step, None where there is none."""
        means = [
            [value / count if count else None for value, count in zip(sums, counts, strict=True)]
            for sums, counts in self.steps
        ]
        return tuple(
            combined([own[place] for own in means if place < len(own)], self.kind.together, len(means))
            for place in range(max(map(len, means), default=0))
        )


def combined(values: Sequence[float | None], together: Together, sources: int) -> float | None:
    """What the sources show together at one moment; a sum is made whole where one of them is missing."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if together == "highest":
        return max(known)
    mean = sum(known) / len(known)
    return mean * sources if together == "sum" else mean
