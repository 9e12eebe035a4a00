"""The time line of a session while it is followed: its blocks with their phases, and the readings in even steps."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sessions.frames.block_spans import BlockSpan
from sessions.frames.tracks import TRACKS, Track, TrackKind

MOST_STEPS: Final = 256  # more than a plot has columns
MOST_BLOCKS: Final = 1000  # the last ones
FIRST_STEP_S: Final = 0.25
Change = Callable[[BlockSpan], BlockSpan]
SHOWN: Final = frozenset((kind.sources, kind.metric) for kind in TRACKS)


class Steps:
    """Means of a reading over steps of equal length from 0 on; at MOST_STEPS, two neighbours become one each."""

    def __init__(self) -> None:
        self.each_s = FIRST_STEP_S
        self._sums = array("d")
        self._counts = array("q")

    def add(self, second: float, value: float) -> None:
        """A value at a moment; one before 0 counts to the first step."""
        place = max(0, int(second / self.each_s))
        while place >= MOST_STEPS:
            self.double()
            place = max(0, int(second / self.each_s))
        missing = place + 1 - len(self._sums)
        if missing > 0:
            self._sums.extend([0.0] * missing)
            self._counts.extend([0] * missing)
        self._sums[place] += value
        self._counts[place] += 1

    def double(self) -> None:
        """Make the steps twice as long."""
        self.each_s *= 2
        starts = range(0, len(self._sums), 2)
        self._sums = array("d", [sum(self._sums[place : place + 2]) for place in starts])
        self._counts = array("q", [sum(self._counts[place : place + 2]) for place in starts])

    def copied(self) -> tuple[array[float], array[int]]:
        """Of each step, the sum of its values and their number."""
        return self._sums[:], self._counts[:]


class TimeLine:
    """Takes blocks and telemetry in, in bounded memory."""

    def __init__(self) -> None:
        self._blocks: deque[BlockSpan] = deque(maxlen=MOST_BLOCKS)
        self._steps: dict[tuple[str, str], Steps | None] = {}  # None: it is not shown

    def start_block(self, method: str, block: int, lane: int, second: float) -> None:
        self._blocks.append(BlockSpan(method, block, lane, second, None, (("", second),)))

    def enter(self, method: str, block: int, phase: str, second: float) -> None:
        self._change(method, block, lambda span: replace(span, phases=(*span.phases, (phase, second))))

    def end_block(self, method: str, block: int, second: float) -> None:
        self._change(method, block, lambda span: replace(span, end_s=second))

    def cut(self, second: float) -> None:
        """Whatever still runs ends here."""
        for place, span in enumerate(self._blocks):
            if span.end_s is None:
                self._blocks[place] = replace(span, end_s=second)

    def _change(self, method: str, block: int, change: Change) -> None:
        for place in range(len(self._blocks) - 1, -1, -1):
            span = self._blocks[place]
            if (span.method, span.block) == (method, block):
                if span.end_s is None:
                    self._blocks[place] = change(span)
                return

    def read(self, source: str, metric: str, value: float, second: float) -> None:
        """One reading of the session's telemetry."""
        key = (source, metric)
        if key not in self._steps:
            shown = (source.rstrip("0123456789"), metric) in SHOWN
            self._steps[key] = Steps() if shown else None
        if (steps := self._steps[key]) is not None:
            steps.add(second, value)

    def blocks(self) -> tuple[BlockSpan, ...]:
        return tuple(self._blocks)

    def tracks(self, gpus: Sequence[str]) -> tuple[Track, ...]:
        """The readings until now, of these GPUs and the host."""
        return tuple(track for kind in TRACKS if (track := self._track(kind, gpus)) is not None)

    def _track(self, kind: TrackKind, gpus: Sequence[str]) -> Track | None:
        sources = gpus if kind.sources == "gpu" else [kind.sources]
        found = [steps for source in sources if (steps := self._steps.get((source, kind.metric))) is not None]
        if not found:
            return None
        each_s = max(steps.each_s for steps in found)
        for steps in found:
            while steps.each_s < each_s:
                steps.double()
        return Track(kind, each_s, tuple(steps.copied() for steps in found))
