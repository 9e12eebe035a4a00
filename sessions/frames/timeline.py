"""One axis of seconds for a session: its stretches, which have a clock each, laid end to end."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from sessions.frames.counting import with_stretch


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch from its first block's beginning to its last one's end; `before_s` seconds of others come before it."""

    stretch: int
    begun_ns: int
    ended_ns: int
    before_s: float = 0.0

    def seconds(self, t_ns: int) -> float:
        """A moment of this stretch on the axis."""
        return self.before_s + (t_ns - self.begun_ns) / 1e9

    def holds(self, time: str) -> pl.Expr:
        """Whether a row, of a frame with `stretch` filled in, has its time within the span."""
        return (pl.col("stretch") == self.stretch) & pl.col(time).is_between(self.begun_ns, self.ended_ns)


def spans(runs: pl.DataFrame) -> list[Span]:
    """The stretches of a runs frame of one session in which any block ended."""
    edges = (
        with_stretch(runs)
        .group_by("stretch")
        .agg(pl.col("started_ns").min(), pl.col("ended_ns").max())
        .drop_nulls()
        .sort("stretch")
    )
    found: list[Span] = []
    for stretch, begun_ns, ended_ns in edges.iter_rows():
        before_s = found[-1].seconds(found[-1].ended_ns) if found else 0.0
        found.append(Span(stretch, begun_ns, ended_ns, before_s))
    return found
