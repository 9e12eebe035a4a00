"""How much GPU memory a block used, from NVML's readings around it.

Subtracted is the minimum in use while the runner imported its packages, before it loads anything: at the moment a
block begins, the driver may still count what the process of the block before it held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import polars as pl

SOURCE = "NVML memory in use, minus the minimum before loading"
METRIC: Final = "memory_used_bytes"
WAITING: Final = 256  # readings that may still turn out to be of the loading, whose begin is told a little later


class VramPeak:
    """Takes a block's readings as they come, in any order close to that of their times; `bytes()` at any moment."""

    def __init__(self, gpus: Sequence[str], start_ns: int) -> None:
        self._start_ns = start_ns
        self._load_ns: int | None = None
        self._end_ns: int | None = None
        self._gpus = tuple(gpus)
        self._before: dict[str, float] = {}
        self._during: dict[str, float] = {}
        self._waiting: deque[tuple[str, int, float]] = deque()

    def load(self, load_ns: int) -> None:
        """Loading began then."""
        if self._load_ns is None:
            self._load_ns = load_ns
            while self._waiting:
                self._place(*self._waiting.popleft())

    def end(self, end_ns: int) -> None:
        """The block was over then; later readings are not its own."""
        self._end_ns = end_ns

    def add(self, gpu: str, t_ns: int, used_bytes: float) -> None:
        """Take in a reading; one of another GPU, or of another time, changes nothing."""
        if gpu not in self._gpus or t_ns < self._start_ns or (self._end_ns is not None and t_ns > self._end_ns):
            return
        if self._load_ns is not None:
            self._place(gpu, t_ns, used_bytes)
            return
        self._waiting.append((gpu, t_ns, used_bytes))
        if len(self._waiting) > WAITING:
            self._place(*self._waiting.popleft())

    def _place(self, gpu: str, t_ns: int, used_bytes: float) -> None:
        if self._load_ns is None or t_ns <= self._load_ns:
            self._before[gpu] = min(used_bytes, self._before.get(gpu, used_bytes))
        else:
            self._during[gpu] = max(used_bytes, self._during.get(gpu, used_bytes))

    def bytes(self) -> int | None:
        """The GPUs' peaks, summed; None while one of them is not known."""
        if not self._gpus or self.unread() is not None:
            return None
        return int(sum(max(0.0, self._during[gpu] - self._before[gpu]) for gpu in self._gpus))

    def unread(self) -> str | None:
        """The first GPU without a reading before or during the loading."""
        return next((gpu for gpu in self._gpus if gpu not in self._before or gpu not in self._during), None)


def peak_vram(
    telemetry: pl.LazyFrame, gpus: Sequence[str], start_ns: int, load_ns: int | None, end_ns: int | None
) -> tuple[int | None, str]:
    """Peak bytes on `gpus`, summed, with how they were found; None with the reason where they cannot be known.

    `telemetry` is of one stretch, that of the block: another one has another clock.
    `start_ns`, `load_ns`, `end_ns`: when the block began, began to load, and ended (None: never, not yet).
    """
    import polars as pl

    if not gpus:
        return None, "no GPU was used"
    if load_ns is None:
        return None, "the block never reached loading"
    peak = VramPeak(gpus, start_ns)
    peak.load(load_ns)
    readings = telemetry.filter(
        pl.col("metric") == METRIC,
        pl.col("value").is_not_null(),
        pl.col("t_ns").is_between(start_ns, 2**63 - 1 if end_ns is None else end_ns),
    )
    for reading in readings.select("source", "t_ns", "value").collect().iter_rows():
        peak.add(*reading)
    if (gpu := peak.unread()) is not None:
        return None, f"NVML returned no memory readings for {gpu} around this block"
    return peak.bytes(), SOURCE
