"""The machine's noise floor: how large a difference appears when the reference is run against itself.

    kasoku run --aa

The plan then holds a method twice, under its name and as `NAME-again`, with that name as its reference. The floor is
the largest difference from 1 that the 95 % interval of their ratio leaves open. It is kept per device in the home's
cache; the session that it comes from stays, so that it can be looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sessions.disk.plan import Plan
from sessions.planning.twice import AGAIN
from sessions.verdict.kept_results import KeptResults
from sessions.verdict.statistics import paired_ratio
from sessions.verdict.stopping import looked_at
from sessions.verdict.verdicts import largest_difference, percent

if TYPE_CHECKING:
    import polars as pl


class NoiseFloor(msgspec.Struct, frozen=True, kw_only=True):
    """`difference` as a share; `ratio` is that of the second run of `method` to the first, over `blocks` pairs."""

    difference: float
    ratio: float
    blocks: int
    method: str
    session: str
    model: str = ""

    def sentence(self) -> str:
        """The result as a sentence."""
        return (
            f"noise floor {percent(self.difference)}: {self.method} against itself on this device"
            f" ({self.blocks} blocks, session {self.session})"
        )


def floor_of(
    plan: Plan, session: str, runs: pl.DataFrame, requests: pl.DataFrame, was_looked_at: bool = False
) -> NoiseFloor | None:
    """The floor that an A/A session shows; None under three pairs of successful blocks.

    `was_looked_at`: its number of blocks followed from them, which the interval has to allow for.
    """
    import polars as pl

    from sessions.frames.counting import counted_requests

    twins = [(m.reference, m.name) for m in plan.methods if m.reference and m.name == m.reference + AGAIN]
    if not plan.aa or not twins:
        return None
    timed = counted_requests(runs, requests)
    means = timed.group_by("method", "block").agg(pl.col("e2e_tok_s").mean())
    by_method = {
        name: dict(means.filter(pl.col("method") == name).select("block", "e2e_tok_s").iter_rows()) for name in twins[0]
    }
    first, again = (by_method[name] for name in twins[0])
    shared = sorted(first.keys() & again.keys())
    ratio = paired_ratio([again[block] for block in shared], [first[block] for block in shared])
    ratio = looked_at(ratio) if ratio is not None and was_looked_at else ratio
    interval = ratio.interval() if ratio else None
    if interval is None:
        return None
    return NoiseFloor(
        difference=largest_difference(interval),
        ratio=interval.estimate,
        blocks=len(shared),
        method=twins[0][0],
        session=session,
        model=plan.model,
    )


_KEPT: Final = KeptResults("noise-floors.json", dict[str, NoiseFloor])  # by device
keep, known = _KEPT.keep, _KEPT.known
