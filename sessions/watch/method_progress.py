"""How far one method has come: its blocks' sums as its records add them up, and its row of the live table."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Final

from sessions.disk.plan import PlannedMethod
from sessions.disk.records import BlockEnded, Energy
from sessions.frames.energy_edges import EnergyEdges
from sessions.verdict.block_sums import BlockSums, MethodFigures, method_figures
from sessions.verdict.statistics import LogRatio
from sessions.verdict.verdicts import Kind
from sessions.watch.laps import Laps
from sessions.watch.live import MethodLive
from sessions.watch.throughput import Throughput

HISTORY_POINTS: Final = 120
CUT: Final = "stopped"  # what a block is that has no end when its conductor has


class MethodProgress:
    """The last attempts at a method's blocks, in the order in which they were begun."""

    def __init__(self) -> None:
        self.state = "waiting"
        self._blocks: dict[int, BlockSums] = {}
        self._ended: set[int] = set()  # those that said so themselves
        self._energy: dict[int, EnergyEdges] = {}
        self._history: deque[float] = deque(maxlen=HISTORY_POINTS)
        self._figures: MethodFigures | None = None
        self.laps = Laps()  # of requests one after another
        self.throughput = Throughput()  # of those side by side

    def start(self, block: int) -> None:
        """A block is begun, again perhaps: what an earlier attempt gave counts for nothing."""
        self._blocks.pop(block, None)
        self._blocks[block] = BlockSums(block)
        self._energy.pop(block, None)
        self._ended.discard(block)
        self._figures = None

    def change(self, block: int) -> BlockSums:
        """The sums of a block, for something of theirs to be changed."""
        if block not in self._blocks:
            self.start(block)
        self._figures = None
        return self._blocks[block]

    def add(self, block: int, tok_s: float, ttft_s: float, tokens: int) -> None:
        """Take in a request that counts."""
        self.change(block).add(tok_s, ttft_s, tokens)
        self._history.append(tok_s)

    def read_energy(self, record: Energy) -> None:
        """A reading of the counters at an edge of a block, or of a point in it, which is left to the frames."""
        if record.place is not None:
            return
        sums = self.change(record.block)
        edges = self._energy.setdefault(record.block, EnergyEdges())
        edges.read(record)
        sums.timed_energy_j = edges.timed_j

    def saw_vram(self, block: int, peak_bytes: int | None) -> None:
        """The peak of a block until now."""
        if block in self._blocks and peak_bytes != self._blocks[block].peak_vram_bytes:
            self.change(block).peak_vram_bytes = peak_bytes

    def end(self, record: BlockEnded) -> None:
        """A block is over; a word on one that was over already, and not begun again, is an attempt of its own."""
        if record.block in self._blocks and self._blocks[record.block].status is not None:
            self.start(record.block)
        sums = self.change(record.block)
        sums.status, sums.error = record.status, record.error
        self._ended.add(record.block)
        self.state = record.status

    def cut(self) -> None:
        """The conductor is gone, or another takes over: what runs has no end of its own."""
        for sums in self._blocks.values():
            if sums.status is None:
                sums.status, self._figures = CUT, None

    def requests_of(self, block: int) -> int:
        """How many requests of a block count until now."""
        return self._blocks[block].requests if block in self._blocks else 0

    def figures(self, abandoned: bool = False) -> MethodFigures:
        """Worked out once until something changes: a viewer asks ten times a second."""
        if abandoned:
            return method_figures(
                replace(sums, status=CUT) if sums.status is None else sums for sums in self._blocks.values()
            )
        if self._figures is None:
            self._figures = method_figures(self._blocks.values())
        return self._figures

    def row(
        self,
        method: PlannedMethod,
        blocks: int | None,
        requests: int,
        tok_s_now: float | None,
        figures: MethodFigures,
        ratio: LogRatio | None,
        verdict: Kind | None,
        decided: bool,
    ) -> MethodLive:
        """The row of the live table; `ratio` and `verdict` are None for a method that is compared with none."""
        return MethodLive(
            name=method.name,
            reference=method.reference,
            state=self.state,
            blocks_done=len(self._ended),
            blocks=blocks,
            requests_done=figures.requests,
            requests=requests,
            tok_s_now=tok_s_now,
            tok_s_mean=figures.tok_s_mean,
            tok_s_interval=figures.tok_s_interval,
            ratio=ratio.ratio if ratio else None,
            ratio_interval=ratio.interval() if ratio else None,
            ttft_s=figures.ttft_s_median,
            peak_vram_bytes=figures.peak_vram_bytes,
            peak_rss_bytes=figures.peak_rss_bytes,
            energy_j_per_token=figures.energy_j_per_token,
            load_s=figures.load_s_median,
            in_effect=figures.in_effect,
            verdict=verdict,
            decided=decided,
            reason=figures.in_effect_reason,
            error=figures.error,
            history=tuple(self._history),
            laps=self.laps.shown() or self.throughput.shown(),
        )
