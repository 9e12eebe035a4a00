"""The newest reading of every metric, with its recent past, and the memory that the blocks take on the GPUs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from sessions.disk.records import Telemetry
from sessions.frames.vram import METRIC, VramPeak
from sessions.watch.live import Gauge

HISTORY_POINTS: Final = 120


class LatestReadings:
    """Takes telemetry in. Of the block before the present one, in each of the lanes, late readings still count."""

    def __init__(self, lanes: int = 1) -> None:
        self.gpus: tuple[str, ...] = ()
        self._newest: dict[tuple[str, str], tuple[str, float | None, str, int]] = {}  # unit, value, status, t_ns
        self._history: dict[tuple[str, str], deque[float]] = {}
        self._blocks: deque[tuple[str, int, VramPeak]] = deque(maxlen=2 * lanes)

    def start_block(self, method: str, block: int, t_ns: int, gpus: slice) -> None:
        """Let go of the block before the last. This one uses these of the GPUs."""
        self._blocks.append((method, block, VramPeak(self.gpus[gpus], t_ns)))

    def start_loading(self, method: str, block: int, t_ns: int) -> None:
        for peak in self._of(method, block):
            peak.load(t_ns)

    def end_block(self, method: str, block: int, t_ns: int) -> None:
        for peak in self._of(method, block):
            peak.end(t_ns)

    def _of(self, method: str, block: int) -> list[VramPeak]:
        """The last attempt at a block, where it is still held."""
        return [peak for *place, peak in self._blocks if place == [method, block]][-1:]

    def forget_blocks(self) -> None:
        """What comes from now on is of none of the blocks until now."""
        self._blocks.clear()

    def take(self, record: Telemetry) -> None:
        for source, metric, unit, value, t_ns, _call, status in record.rows:
            key = (source, metric)
            past = self._history.get(key)
            if past is None:
                past = self._history[key] = deque(maxlen=HISTORY_POINTS)
            if value is not None:
                past.append(value)
                if metric == METRIC:
                    for _method, _block, vram in self._blocks:
                        vram.add(source, t_ns, value)
            self._newest[key] = (unit, value, status, t_ns)

    def vram_peaks(self) -> Iterator[tuple[str, int, int | None]]:
        """(method, block, bytes) of the present block and the one before."""
        for method, block, vram in self._blocks:
            yield method, block, vram.bytes()

    def gauges(self) -> dict[tuple[str, str], Gauge]:
        return {
            key: Gauge(*key, unit, value, status, t_ns, tuple(self._history[key]))
            for key, (unit, value, status, t_ns) in self._newest.items()
        }
