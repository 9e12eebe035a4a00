"""Where each block lies on the session's time, and its phases in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import polars as pl

    from sessions.frames.timeline import Span

FROM_THE_START: Final = (("", "start_s"), ("import", "import_s"))
TO_THE_END: Final = (  # backwards; loading, whose duration the runner alone knows, has what lies between
    ("close", "close_s"),
    ("fidelity", "fidelity_s"),
    ("greedy", "greedy_s"),
    ("evidence", "evidence_s"),
    ("timed", "timed_s"),
    ("warmup", "warmup_s"),
)


@dataclass(frozen=True, slots=True)
class BlockSpan:
    """A block in seconds of the session; `end_s` is None while it runs.

    `phases` are those entered, by the runner's names with "" before the first, and when each began.
    """

    method: str
    block: int
    lane: int
    start_s: float
    end_s: float | None
    phases: tuple[tuple[str, float], ...]


def block_spans(runs: pl.DataFrame, spans: Sequence[Span], lane_of: Callable[[int], int]) -> list[BlockSpan]:
    """The blocks of a runs frame that ended within these spans, in its order; each once, whatever its points."""
    from sessions.frames.counting import with_stretch

    found: dict[tuple[str, int, int], BlockSpan] = {}
    by_stretch = {span.stretch: span for span in spans}
    for run in with_stretch(runs).iter_rows(named=True):
        span = by_stretch.get(run["stretch"])
        if span is None or run["started_ns"] is None or run["ended_ns"] is None:
            continue
        start, end = span.seconds(run["started_ns"]), span.seconds(run["ended_ns"])
        block = BlockSpan(run["method"], run["block"], lane_of(run["block"]), start, end, _phases(run, start, end))
        found.setdefault((block.method, block.block, run["started_ns"]), block)
    return list(found.values())


def _phases(run: Mapping[str, Any], start: float, end: float) -> tuple[tuple[str, float], ...]:
    """Empty where a session of an earlier version does not know them."""
    if run.get("start_s") is None:
        return ()
    phases: list[tuple[str, float]] = []
    at = start
    for name, column in FROM_THE_START:
        phases.append((name, at))
        at += run.get(column) or 0.0
    phases.append(("load", at))
    later: list[tuple[str, float]] = []
    for name, column in TO_THE_END:
        if run.get(column) is not None:
            end -= run[column]
            later.insert(0, (name, max(at, end)))
    return (*phases, *later)
