"""A row of a comparison of sessions that were measured under load: one method of one session at one point.

It has all columns of ComparisonRow, each over the requests within the point's steady part, and those below.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from sessions.disk.point import ALONE
from sessions.verdict.comparison_row import DETAIL, SCREEN, ComparisonRow
from sessions.verdict.result_columns import DECLARED, EVERYWHERE, ResultColumn, Stored, kept, shown

Of = Literal["block_mean", "block_low", "block_high"]


def _blocks(column: str, by: Of) -> Stored:
    return Stored("runs", column, by)


def _last(column: str) -> Stored:
    return Stored("runs", column, "last")


def _quantile(column: str, by: Literal["median", "p90", "p99"]) -> Stored:
    return Stored("requests", column, by)


def _placed(name: str, after: str, **changes: Any) -> dict[str, ResultColumn]:
    """A column of ComparisonRow, after another."""
    declared: ResultColumn = ComparisonRow.__dataclass_fields__[name].metadata[DECLARED]
    return {DECLARED: replace(declared, after=after, **changes)}


@dataclass(frozen=True, slots=True)
class LoadRow(ComparisonRow):
    """One method of one session at one point. Throughput is that of all requests in flight, `tok_s_user` of one.

    `ratio` and `verdict` are of tok_s_total; in an open loop, whose throughput is what was asked for, of tok_s_mean. A
    `…_low` and a `…_high` are the 95 % t interval over blocks; a quantile is over the requests of all blocks.
    """

    tok_s_mean: float | None = field(
        default=None, metadata=_placed("tok_s_mean", "tok_s_user", on=DETAIL, lead=False, beside="", tone="")
    )
    tok_s_median: float | None = field(default=None, metadata=_placed("tok_s_median", "tok_s_mean"))
    tok_s_sd: float | None = field(default=None, metadata=_placed("tok_s_sd", "tok_s_median"))
    ratio: float | None = field(default=None, metadata=_placed("ratio", "total_half_width"))
    ttft_s_median: float | None = field(default=None, metadata=_placed("ttft_s_median", "goodput_rps"))
    itl_s_p50: float | None = field(default=None, metadata=_placed("itl_s_p50", "tpot_s_p99"))
    itl_s_p99: float | None = field(default=None, metadata=_placed("itl_s_p99", "itl_s_p90", on=EVERYWHERE))
    energy_j_per_token: float | None = field(default=None, metadata=_placed("energy_j_per_token", "equal_alone_share"))
    mbu: float | None = field(default=None, metadata=_placed("mbu", "energy_j_per_token"))
    peak_vram_bytes: int | None = field(default=None, metadata=_placed("peak_vram_bytes", "mbu"))
    in_effect: bool | None = field(default=None, metadata=_placed("in_effect", "peak_vram_bytes"))
    point: str = field(default=ALONE, metadata=kept("text", stored=_last("point")))
    primary: bool = field(default=False, metadata=kept("flag"))
    batch: int | None = field(default=None, metadata=kept("count", stored=_last("batch")))
    concurrency: int | None = field(default=None, metadata=kept("count", stored=_last("concurrency")))
    rate: float | None = field(default=None, metadata=kept("per_second", stored=_last("rate")))
    burstiness: float | None = field(default=None, metadata=kept("number", stored=_last("burstiness")))
    isl: int | None = field(default=None, metadata=kept("count", stored=_last("isl")))
    osl: int | None = field(default=None, metadata=kept("count", stored=_last("osl")))
    depth: int | None = field(default=None, metadata=kept("count", stored=_last("depth")))
    tok_s_total: float | None = field(
        default=None,
        metadata=shown(
            "total",
            "rate",
            optional=False,
            lead=True,
            beside="total_half_width",
            tone="strong",
            stored=_blocks("tok_s_total", "block_mean"),
        ),
    )
    tok_s_total_low: float | None = field(
        default=None, metadata=kept("rate", stored=_blocks("tok_s_total", "block_low"))
    )
    tok_s_total_high: float | None = field(
        default=None, metadata=kept("rate", stored=_blocks("tok_s_total", "block_high"))
    )
    tok_s_total_whole: float | None = field(
        default=None,
        metadata=shown(
            "with the ramp",
            "rate",
            on=SCREEN,
            after="tok_s_total",
            stored=_blocks("tok_s_total_whole", "block_mean"),
        ),
    )
    tok_s_gpu: float | None = field(default=None, metadata=shown("tok/s/GPU", "rate", on=SCREEN, after="tok_s_user"))
    tok_s_user: float | None = field(
        default=None,
        metadata=shown(
            "tok/s/user", "rate", optional=False, after="compared_with", stored=_blocks("tok_s_user", "block_mean")
        ),
    )
    tok_s_user_low: float | None = field(default=None, metadata=kept("rate", stored=_blocks("tok_s_user", "block_low")))
    tok_s_user_high: float | None = field(
        default=None, metadata=kept("rate", stored=_blocks("tok_s_user", "block_high"))
    )
    rps: float | None = field(
        default=None,
        metadata=shown("req/s", "per_second", after="tok_s_user", stored=_blocks("rps", "block_mean")),
    )
    rps_low: float | None = field(default=None, metadata=kept("per_second", stored=_blocks("rps", "block_low")))
    rps_high: float | None = field(default=None, metadata=kept("per_second", stored=_blocks("rps", "block_high")))
    goodput_rps: float | None = field(default=None, metadata=shown("goodput", "per_second", after="rps"))
    goodput_rps_low: float | None = field(default=None, metadata=kept("per_second"))
    goodput_rps_high: float | None = field(default=None, metadata=kept("per_second"))
    goodput_of: str = field(default="", metadata=shown("goodput of", "sentence", on=DETAIL))
    ttft_s_p50_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("ttft_s_p50", "block_low"))
    )
    ttft_s_p50_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("ttft_s_p50", "block_high"))
    )
    ttft_s_p90: float | None = field(
        default=None,
        metadata=shown("TTFT p90", "duration", on=SCREEN, after="ttft_s_median", stored=_quantile("ttft_s", "p90")),
    )
    ttft_s_p90_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("ttft_s_p90", "block_low"))
    )
    ttft_s_p90_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("ttft_s_p90", "block_high"))
    )
    ttft_s_p99: float | None = field(
        default=None,
        metadata=shown("TTFT p99", "duration", on=DETAIL, after="ttft_s_p90", stored=_quantile("ttft_s", "p99")),
    )
    ttft_s_p99_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("ttft_s_p99", "block_low"))
    )
    ttft_s_p99_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("ttft_s_p99", "block_high"))
    )
    tpot_s_p50: float | None = field(
        default=None,
        metadata=shown("TPOT p50", "duration", on=SCREEN, after="ttft_s_p99", stored=_quantile("tpot_s", "median")),
    )
    tpot_s_p50_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("tpot_s_p50", "block_low"))
    )
    tpot_s_p50_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("tpot_s_p50", "block_high"))
    )
    tpot_s_p90: float | None = field(
        default=None,
        metadata=shown("TPOT p90", "duration", on=SCREEN, after="tpot_s_p50", stored=_quantile("tpot_s", "p90")),
    )
    tpot_s_p90_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("tpot_s_p90", "block_low"))
    )
    tpot_s_p90_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("tpot_s_p90", "block_high"))
    )
    tpot_s_p99: float | None = field(
        default=None,
        metadata=shown("TPOT p99", "duration", on=DETAIL, after="tpot_s_p90", stored=_quantile("tpot_s", "p99")),
    )
    tpot_s_p99_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("tpot_s_p99", "block_low"))
    )
    tpot_s_p99_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("tpot_s_p99", "block_high"))
    )
    itl_s_p50_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("itl_s_p50", "block_low"))
    )
    itl_s_p50_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("itl_s_p50", "block_high"))
    )
    itl_s_p90: float | None = field(
        default=None,
        metadata=shown("ITL p90", "duration", on=SCREEN, after="itl_s_p50", stored=_last("method_itl_s_p90")),
    )
    itl_s_p90_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("itl_s_p90", "block_low"))
    )
    itl_s_p90_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("itl_s_p90", "block_high"))
    )
    itl_s_p99_low: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("itl_s_p99", "block_low"))
    )
    itl_s_p99_high: float | None = field(
        default=None, metadata=kept("duration", stored=_blocks("itl_s_p99", "block_high"))
    )
    queue_s_p50: float | None = field(
        default=None,
        metadata=shown("queue", "duration", on=DETAIL, after="itl_s_p99", stored=_quantile("queue_s", "median")),
    )
    queue_s_p90: float | None = field(default=None, metadata=kept("duration", stored=_quantile("queue_s", "p90")))
    queue_s_p99: float | None = field(
        default=None,
        metadata=shown("queue p99", "duration", on=DETAIL, after="queue_s_p50", stored=_quantile("queue_s", "p99")),
    )
    in_flight: float | None = field(
        default=None,
        metadata=shown(
            "in flight", "number", on=SCREEN, after="queue_s_p99", stored=_blocks("in_flight", "block_mean")
        ),
    )
    decoding: float | None = field(
        default=None,
        metadata=shown(
            "… generating", "number", on=SCREEN, after="in_flight", stored=_blocks("decoding", "block_mean")
        ),
    )
    steady_s: float | None = field(
        default=None,
        metadata=shown(
            "steady part", "duration", on=SCREEN, after="decoding", stored=_blocks("steady_s", "block_mean")
        ),
    )
    wall_s: float | None = field(
        default=None,
        metadata=shown("… of", "duration", on=SCREEN, after="steady_s", stored=_blocks("wall_s", "block_mean")),
    )
    equal_alone_share: float | None = field(
        default=None,
        metadata=shown(
            "equal to alone", "share", on=DETAIL, after="wall_s", stored=_blocks("equal_alone_share", "block_mean")
        ),
    )

    DERIVED: ClassVar[tuple[ResultColumn, ...]] = (
        *(column for column in ComparisonRow.DERIVED if column.key != "tok_s_half_width"),
        ResultColumn("total_half_width", "±95 %", "half_width", optional=False, after="tok_s_total"),
    )

    @property
    def total_half_width(self) -> float | None:
        """Half the 95 % interval of the throughput, in tokens/s."""
        mean, high = self.tok_s_total, self.tok_s_total_high
        return None if mean is None or high is None else high - mean

    @property
    def load(self) -> float:
        """How much is asked for: sequences or requests in flight, or requests a second in an open loop."""
        return self.rate or self.batch or self.concurrency or 1

    @property
    def axis(self) -> str:
        """What the load is a number of: three ways to have several requests at once, which are not one another."""
        return "requests/s" if self.rate is not None else "concurrency" if self.concurrency is not None else "batch"
