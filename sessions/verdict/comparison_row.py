"""A row of a comparison. Its fields are the result columns, declared here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

from sessions.verdict.result_columns import NONE, Face, ResultColumn, Stored, kept, shown

SCREEN: Final[frozenset[Face]] = frozenset({"screen"})
TABLES: Final[frozenset[Face]] = frozenset({"table", "report"})
DETAIL: Final[frozenset[Face]] = frozenset({"report", "screen"})
TABLE: Final[frozenset[Face]] = frozenset({"table"})


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One method of one session. Rates are tokens/s of whole requests; `problem` says what is wrong with the row.

    `tok_s_low` to `tok_s_high` is the 95 % t interval over blocks, `ratio_low` to `ratio_high` that of the ratio. What
    could not be known is None, for the reason in `missing`. `noise_floor` is the difference that the reference shows
    against itself on this device, as a share; `difference` says where the greedy text leaves the reference's. `dnll`
    and what follows are of the prefill path, those in `_decode` of the decode path, in nats a token.
    """

    session: str = field(metadata=kept("text"))
    method: str = field(metadata=kept("text"))
    reference: str | None = field(default=None, metadata=kept("text"))
    requests: int = field(default=0, metadata=kept("count"))
    blocks: int = field(default=0, metadata=kept("count"))
    tok_s_mean: float | None = field(
        default=None,
        metadata=shown("tok/s", "rate", optional=False, lead=True, beside="tok_s_half_width", tone="strong"),
    )
    tok_s_median: float | None = field(
        default=None, metadata=shown("median", "rate", on=DETAIL, stored=Stored("requests", "e2e_tok_s", "median"))
    )
    tok_s_sd: float | None = field(
        default=None, metadata=shown("sd", "rate", on=DETAIL, stored=Stored("requests", "e2e_tok_s", "sd"))
    )
    tok_s_low: float | None = field(default=None, metadata=kept("rate"))
    tok_s_high: float | None = field(default=None, metadata=kept("rate"))
    ratio: float | None = field(
        default=None, metadata=shown("× ref", "ratio", optional=False, lead=True, beside="ratio_interval")
    )
    ratio_low: float | None = field(default=None, metadata=kept("ratio"))
    ratio_high: float | None = field(default=None, metadata=kept("ratio"))
    verdict: str = field(
        default="", metadata=shown("verdict", "sentence", on=SCREEN, after="in_effect", lead=True, tone="accent")
    )
    ttft_s_median: float | None = field(default=None, metadata=shown("TTFT", "duration", optional=False))
    itl_s_p50: float | None = field(default=None, metadata=shown("ITL p50", "duration", optional=False))
    itl_s_p99: float | None = field(default=None, metadata=shown("ITL p99", "duration", on=DETAIL))
    peak_vram_bytes: int | None = field(default=None, metadata=shown("VRAM peak", "bytes", on=SCREEN))
    energy_j_per_token: float | None = field(default=None, metadata=shown("J/tok", "energy"))
    mbu: float | None = field(default=None, metadata=shown("MBU", "share"))
    first_difference: int | None = field(
        default=None, metadata=kept("count", stored=Stored("runs", "first_difference", "least"))
    )
    in_effect: bool | None = field(default=None, metadata=shown("in effect", "flag", optional=False, lead=True))
    flags: tuple[str, ...] = field(
        default=(), metadata=shown("flags", "sentences", on=SCREEN, after="in_effect_reason", tone="warning")
    )
    decode_tok_s_median: float | None = field(
        default=None,
        metadata=shown(
            "decode tok/s", "rate", on=SCREEN, after="tok_s_sd", stored=Stored("requests", "decode_tok_s", "median")
        ),
    )
    load_s_median: float | None = field(
        default=None, metadata=shown("load", "duration", on=SCREEN, after="dram_active_percent")
    )
    warmup_s_median: float | None = field(
        default=None,
        metadata=shown(
            "warm-up", "duration", on=SCREEN, after="load_s_median", stored=Stored("runs", "warmup_s", "median")
        ),
    )
    peak_rss_bytes: int | None = field(
        default=None, metadata=shown("RSS peak", "bytes", on=SCREEN, after="peak_vram_bytes")
    )
    dram_active_percent: float | None = field(
        default=None,
        metadata=shown("DRAM", "percent", after="mbu", stored=Stored("runs", "dram_active_percent", "median")),
    )
    idle_w: float | None = field(default=None, metadata=kept("power", stored=Stored("runs", "idle_w", "last")))
    equal_tokens_share: float | None = field(
        default=None, metadata=shown("equal tokens", "share", on=SCREEN, after="difference_at")
    )
    difference: str = field(default="", metadata=kept("sentence"))
    noise_floor: float | None = field(default=None, metadata=shown("noise floor", "bound", on=SCREEN))
    status: str = field(default="", metadata=kept("text"))
    in_effect_reason: str = field(default="", metadata=shown("evidence", "sentence", on=SCREEN, tone="dim"))
    problem: str = field(default="", metadata=shown("problem", "sentence", on=SCREEN, tone="bad"))
    missing: Mapping[str, str] = field(default_factory=dict, metadata=kept("reasons"))
    timed_share: float | None = field(
        default=None,
        metadata=shown(
            "timed share", "share", on=SCREEN, after="warmup_s_median", stored=Stored("runs", "timed_share", "median")
        ),
    )
    more_blocks: int | None = field(default=None, metadata=kept("count"))
    dnll: float | None = field(default=None, metadata=shown("ΔNLL", "nats", on=TABLE, after="in_effect"))
    dnll_low: float | None = field(default=None, metadata=kept("nats"))
    dnll_high: float | None = field(default=None, metadata=kept("nats"))
    perplexity_ratio: float | None = field(
        default=None, metadata=shown("perplexity ×", "fine_ratio", on=SCREEN, after="loss_decode")
    )
    top1_agreement: float | None = field(
        default=None, metadata=shown("top-1 equal", "fine_share", on=DETAIL, after="perplexity_ratio_decode")
    )
    fidelity: str = field(default="", metadata=shown("fidelity", "sentence"))
    dnll_decode: float | None = field(default=None, metadata=shown("ΔNLL dec.", "nats", on=TABLE, after="dnll"))
    dnll_low_decode: float | None = field(default=None, metadata=kept("nats"))
    dnll_high_decode: float | None = field(default=None, metadata=kept("nats"))
    perplexity_ratio_decode: float | None = field(
        default=None, metadata=shown("… decoding", "fine_ratio", on=SCREEN, after="perplexity_ratio")
    )
    top1_agreement_decode: float | None = field(
        default=None, metadata=shown("top-1 decoding", "fine_share", on=DETAIL, after="top1_agreement")
    )
    fidelity_decode: str = field(default="", metadata=shown("in decoding", "sentence"))
    fidelity_floor: float | None = field(default=None, metadata=kept("nats"))
    fidelity_floor_decode: float | None = field(default=None, metadata=kept("nats"))
    accepted_per_step: float | None = field(
        default=None,
        metadata=shown(
            "accepted/step", "per_step", after="itl_s_p99", stored=Stored("requests", "accepted_per_step", "mean")
        ),
    )

    DERIVED: ClassVar[tuple[ResultColumn, ...]] = (
        ResultColumn("tok_s_half_width", "±95 %", "half_width", optional=False, after="tok_s_mean"),
        ResultColumn("trouble", "status", "text", SCREEN, after="tok_s_mean", lead=True, tone="bad"),
        ResultColumn("compared_with", "reference", "text", SCREEN, optional=False, after="ratio", lead=True),
        ResultColumn("ratio_interval", "95 %", "range", DETAIL, optional=False, after="ratio"),
        ResultColumn("peak_memory_bytes", "memory", "bytes", TABLES, optional=False, after="peak_vram_bytes"),
        ResultColumn("requests_in_blocks", "requests", "text", SCREEN, after="warmup_s_median"),
        ResultColumn("difference_at", "1st diff.", "position", after="requests_in_blocks"),
        ResultColumn("loss", "ΔNLL", "nats_range", DETAIL, after="in_effect"),
        ResultColumn("loss_decode", "ΔNLL decoding", "nats_range", DETAIL, after="loss"),
    )

    @property
    def tok_s_half_width(self) -> float | None:
        """Half the 95 % interval of the mean, in tokens/s."""
        return None if self.tok_s_low is None or self.tok_s_high is None else (self.tok_s_high - self.tok_s_low) / 2

    @property
    def compared_with(self) -> str | None:
        """The reference, where it is another method."""
        return None if self.reference == self.method else self.reference

    @property
    def ratio_interval(self) -> tuple[float, float] | None:
        """The ratio's 95 % interval."""
        return None if self.ratio_low is None or self.ratio_high is None else (self.ratio_low, self.ratio_high)

    @property
    def peak_memory_bytes(self) -> int | None:
        """Of the GPU, and of the host where none was used."""
        return self.peak_rss_bytes if self.peak_vram_bytes is None else self.peak_vram_bytes

    @property
    def requests_in_blocks(self) -> str:
        return f"{self.requests} in {self.blocks} block{'s' if self.blocks != 1 else ''}"

    @property
    def difference_at(self) -> int | str | None:
        """The token at which the greedy text leaves the reference's, "none" where it does not."""
        return NONE if self.first_difference is None and self.equal_tokens_share == 1 else self.first_difference

    @property
    def loss(self) -> tuple[float, float | None, float | None] | None:
        """ΔNLL in prefill and both ends of its 95 % interval, in nats a token."""
        return None if self.dnll is None else (self.dnll, self.dnll_low, self.dnll_high)

    @property
    def loss_decode(self) -> tuple[float, float | None, float | None] | None:
        """The same in decoding."""
        return None if self.dnll_decode is None else (self.dnll_decode, self.dnll_low_decode, self.dnll_high_decode)

    @property
    def loss_at_most(self) -> float | None:
        """The larger upper end of both; None unless both are known."""
        if self.dnll_high is None or self.dnll_high_decode is None:
            return None
        return max(self.dnll_high, self.dnll_high_decode)

    @property
    def trouble(self) -> str:
        """How the blocks ended, unless all succeeded."""
        return "" if self.status == "ok" else self.status
