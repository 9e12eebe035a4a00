"""What a plan will probably take, by the blocks that earlier sessions of this home have of its methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sessions.disk.plan import Plan
    from sessions.disk.store import Store

SESSIONS: Final = 50  # the newest, that are looked at


@dataclass(frozen=True, slots=True)
class EarlierBlock:
    """A block of one of the plan's methods, in seconds as long as it would have been with the plan's requests.

    `memory_bytes` is what it held at most: VRAM on a GPU, RSS on a CPU.
    """

    method: str
    block: int
    seconds: float
    memory_bytes: int | None
    scored: bool = False  # for fidelity, and the plan is to do so too


@dataclass(frozen=True, slots=True)
class Expected:
    """`methods` of the plan are known from `blocks` earlier blocks; with none of them, nothing is known.

    `unscored`: the plan measures fidelity, and how long that takes is not in those blocks.
    """

    methods: int = 0
    blocks: int = 0
    least_s: float | None = None
    most_s: float | None = None
    memory_bytes: int | None = None
    unscored: bool = False


def expected(plan: Plan, blocks: Sequence[EarlierBlock]) -> Expected:
    """The range of what the plan takes: at least its shortest blocks alone, at most its longest.

    A method's first block in a session, which also shows the evidence and is scored, counts once. A method without
    earlier blocks takes as long as those that have some. Rounds that are added until the ratios are known begin with as
    many as an interval needs, and end in the time that they are given.
    """
    from sessions.verdict.statistics import LEAST_BLOCKS

    if not blocks:
        return Expected()
    by_method: dict[str, list[EarlierBlock]] = {}
    for row in blocks:
        by_method.setdefault(row.method, []).append(row)
    spans = [_span(by_method.get(method.name, blocks)) for method in plan.methods]
    rounds = plan.blocks if plan.until is None else min(plan.blocks, LEAST_BLOCKS)
    least = rounds * sum(shortest for shortest, _, _ in spans)
    first, later = sum(first for _, first, _ in spans), sum(later for _, _, later in spans)
    most = first + (plan.blocks - 1) * later
    if plan.until is not None and plan.at_most is not None:
        most = max(first + (rounds - 1) * later, min(most, plan.at_most))
    memory = [row.memory_bytes for row in blocks if row.memory_bytes is not None]
    unscored = plan.fidelity and not any(row.scored for row in blocks)
    return Expected(len(by_method), len(blocks), least, most, max(memory, default=None), unscored)


def _span(blocks: Sequence[EarlierBlock]) -> tuple[float, float, float]:
    """Seconds of the shortest block, of the longest, and of the longest after the first of its session."""
    later = [row.seconds for row in blocks if row.block > 0]
    all_s = [row.seconds for row in blocks]
    return min(all_s), max(all_s), max(later or all_s)


def earlier_blocks(plan: Plan, store: Store) -> list[EarlierBlock]:
    """The blocks that count of the plan's methods on its model and device; under a load, of the same points."""
    import polars as pl

    from sessions.disk.session_folder import SessionError
    from sessions.frames.counting import counted_blocks

    runs = store.scan("runs", store.ids()[:SESSIONS])
    if runs is None:
        return []
    rows = (
        counted_blocks(runs)
        .filter(
            (pl.col("model") == plan.model)
            & (pl.col("device") == plan.device)
            & pl.col("method").is_in([method.name for method in plan.methods])
            & (pl.col("timed_s") > 0)
        )
        .group_by("session", "method", "block")
        .agg(
            ((pl.col("ended_ns") - pl.col("started_ns")) * 1e-9).max().alias("all_s"),
            pl.col("timed_s").sum(),
            pl.col("fidelity_s").max().fill_null(0.0),
            pl.col("peak_rss_bytes" if plan.device == "cpu" else "peak_vram_bytes").max().alias("memory"),
        )
        .sort("session", "method", "block")
        .collect()
    )
    shares: dict[str, float | None] = {}
    for session in rows.get_column("session").unique():
        try:
            shares[session] = _share(plan, store.folder(session).plan())
        except SessionError:
            shares[session] = None
    return [
        EarlierBlock(method, block, others_s + timed_s * share, memory, plan.fidelity and fidelity_s > 0)
        for session, method, block, all_s, timed_s, fidelity_s, memory in rows.iter_rows()
        if (share := shares[session]) is not None and all_s is not None
        for others_s in [max(0.0, all_s - timed_s - (0.0 if plan.fidelity else fidelity_s))]
    ]


def _share(plan: Plan, earlier: Plan) -> float | None:
    """How many times the timed tokens of an earlier plan's block one of the plan has; None where they cannot be
    compared."""
    if plan.has_load or earlier.has_load:
        return 1.0 if plan.points == earlier.points and plan.sampling == earlier.sampling else None
    tokens = [each.requests_in(1) * each.sampling.max_new_tokens for each in (plan, earlier)]
    return tokens[0] / tokens[1] if tokens[1] else None
