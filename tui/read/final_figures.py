"""The live table of a session that has ended, brought up to what its comparison says.

While a session runs its figures come from the journal as it grows; at its end from the frames, as everywhere else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sessions.verdict.statistics import Interval

if TYPE_CHECKING:
    from sessions.verdict.comparison import Comparison
    from sessions.verdict.comparison_row import ComparisonRow
    from sessions.watch.live import Live, MethodLive


def settled(live: Live, comparison: Comparison) -> Live:
    """The same moment with each method's figures as compared; a method that is not in the comparison stays."""
    rows = {row.method: row for row in comparison.rows}
    return replace(
        live, methods=tuple(_settled(row, rows[row.name]) if row.name in rows else row for row in live.methods)
    )


def _settled(row: MethodLive, compared: ComparisonRow) -> MethodLive:
    mean, low, high = compared.tok_s_mean, compared.tok_s_low, compared.tok_s_high
    interval = Interval(mean, low, high) if mean is not None and low is not None and high is not None else None
    return replace(
        row,
        tok_s_mean=mean,
        tok_s_interval=interval,
        ratio=compared.ratio,
        ttft_s=compared.ttft_s_median,
        peak_vram_bytes=compared.peak_vram_bytes,
        peak_rss_bytes=compared.peak_rss_bytes,
        energy_j_per_token=compared.energy_j_per_token,
        load_s=compared.load_s_median,
        requests_done=compared.requests,
        in_effect=compared.in_effect,
        reason=compared.in_effect_reason,
    )
