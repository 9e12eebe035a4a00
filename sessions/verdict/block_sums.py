"""What the blocks of a method come to: one computation for the live table and for comparisons.

A viewer adds requests up as their records come, a comparison takes the sums from the frames; from here on both are the
same. Nothing but the standard library and `statistics` is needed, so that a viewer loads no frames.
"""

from __future__ import annotations

import statistics
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from sessions.frames.counting import block_counts
from sessions.verdict.statistics import Interval, LogRatio, mean_interval, paired_ratio


@dataclass(slots=True)
class BlockSums:
    """The last attempt at one block: sums over its successful timed requests, and what it reported about itself.

    `status` is None while it runs. `ttfts_s` has eight bytes a request: a median needs them all.
    """

    block: int
    status: str | None = None
    error: str = ""
    requests: int = 0
    tok_s_sum: float = 0.0
    tokens: int = 0
    ttfts_s: array[float] = field(default_factory=lambda: array("d"))
    timed_energy_j: float | None = None
    load_s: float | None = None
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    in_effect: bool | None = None
    in_effect_reason: str = ""

    def add(self, tok_s: float, ttft_s: float, tokens: int) -> None:
        """Take in a request that counts."""
        self.requests += 1
        self.tok_s_sum += tok_s
        self.tokens += tokens
        self.ttfts_s.append(ttft_s)


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """A method's figures; None is not known, or not yet.

    A block that runs counts in those over requests, and in none over blocks: `block_means` (tokens/s by block number)
    and what follows from them. Peaks, loading and `in_effect` are over all blocks, however they ended.
    """

    requests: int
    block_means: dict[int, float]
    tok_s_mean: float | None
    tok_s_interval: Interval | None
    ttft_s_median: float | None
    energy_j_per_token: float | None
    load_s_median: float | None
    peak_rss_bytes: int | None
    peak_vram_bytes: int | None
    in_effect: bool | None
    in_effect_reason: str
    error: str

    def ratio_to(self, reference: MethodFigures) -> LogRatio | None:
        """The ratio to the reference of the same session, from the blocks that both have; None without any."""
        shared = [block for block in self.block_means if block in reference.block_means]
        return paired_ratio(
            [self.block_means[block] for block in shared], [reference.block_means[block] for block in shared]
        )


def method_figures(blocks: Iterable[BlockSums]) -> MethodFigures:
    """The figures of a method's blocks, given in the order in which they were begun."""
    every = list(blocks)
    counted = [sums for sums in every if sums.requests and (sums.status is None or block_counts(sums.status))]
    requests = sum(sums.requests for sums in counted)
    ttfts = [ttft for sums in counted for ttft in sums.ttfts_s]
    means = {sums.block: sums.tok_s_sum / sums.requests for sums in counted if sums.status is not None}
    means = dict(sorted(means.items()))
    loads = [sums.load_s for sums in every if sums.load_s is not None]
    effects = [sums.in_effect for sums in every if sums.in_effect is not None]
    return MethodFigures(
        requests=requests,
        block_means=means,
        tok_s_mean=sum(sums.tok_s_sum for sums in counted) / requests if requests else None,
        tok_s_interval=mean_interval(list(means.values())),
        ttft_s_median=statistics.median(ttfts) if ttfts else None,
        energy_j_per_token=_joules_per_token(counted),
        load_s_median=statistics.median(loads) if loads else None,
        peak_rss_bytes=max((sums.peak_rss_bytes for sums in every if sums.peak_rss_bytes is not None), default=None),
        peak_vram_bytes=max((sums.peak_vram_bytes for sums in every if sums.peak_vram_bytes is not None), default=None),
        in_effect=all(effects) if effects else None,
        in_effect_reason=_reason(every),
        error=next((sums.error for sums in every if sums.error), ""),
    )


def _joules_per_token(counted: Iterable[BlockSums]) -> float | None:
    """Energy of the blocks' timed parts over the tokens of their timed requests; None where a block's is not known."""
    joules = tokens = 0.0
    for sums in counted:
        if sums.timed_energy_j is None:
            if sums.status is None:
                continue  # its timed part is not over yet
            return None
        joules += sums.timed_energy_j
        tokens += sums.tokens
    return joules / tokens if tokens else None


def _reason(blocks: Iterable[BlockSums]) -> str:
    """Why a method was not in effect, otherwise the evidence for it."""
    told = sorted(blocks, key=lambda sums: sums.in_effect is not False)
    return next((sums.in_effect_reason for sums in told if sums.in_effect_reason), "")
