"""What the pictures of a load show: for each method throughput and latencies against the load, with their intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sessions.verdict.load_row import LoadRow
from sessions.verdict.statistics import Interval

Picked = Callable[[LoadRow], Interval | None]


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The load, in the unit of the picture's axis, and what was found there."""

    load: float
    row: LoadRow


@dataclass(frozen=True, slots=True)
class LoadCurve:
    """The points of one method at one pair of lengths, by load. `lengths` is empty where all curves have the same."""

    session: str
    method: str
    lengths: str
    points: tuple[CurvePoint, ...]

    def name(self, several: bool) -> str:
        """What a legend calls it; `several`: the curves are of more than one session."""
        return " ".join(filter(None, [self.method, self.session[-6:] if several else "", self.lengths]))

    def values(self, picked: Picked) -> list[tuple[CurvePoint, Interval]]:
        """The points of which it is known."""
        return [(point, found) for point in self.points if (found := picked(point.row)) is not None]


@dataclass(frozen=True, slots=True)
class LoadCurves:
    """Curves over one axis: `batch`, `concurrency` or `requests/s`."""

    axis: str
    curves: tuple[LoadCurve, ...]

    @property
    def loads(self) -> tuple[float, ...]:
        """Every load of a point, from the least."""
        return tuple(sorted({point.load for curve in self.curves for point in curve.points}))


@dataclass(frozen=True, slots=True)
class LoadPicture:
    """One picture: `across` is the load where it is None. `across` and `up` pick a figure of a row."""

    key: str
    title: str
    up: Picked
    unit: str  # "rate" or "duration"
    across: Picked | None = None


def total(row: LoadRow) -> Interval | None:
    """Throughput, tokens/s."""
    return _interval(row.tok_s_total, row.tok_s_total_low, row.tok_s_total_high)


def gpu(row: LoadRow) -> Interval | None:
    """Throughput of each GPU, tokens/s; of the machine where none is used."""
    whole = total(row)
    if whole is None or not row.tok_s_gpu or not row.tok_s_total:
        return whole
    share = row.tok_s_gpu / row.tok_s_total
    return Interval(whole.estimate * share, whole.low * share, whole.high * share)


def user(row: LoadRow) -> Interval | None:
    """Tokens/s of one response once it has begun: 1 ÷ TPOT."""
    return _interval(row.tok_s_user, row.tok_s_user_low, row.tok_s_user_high)


def ttft(row: LoadRow) -> Interval | None:
    """Median, seconds."""
    return _interval(row.ttft_s_median, row.ttft_s_p50_low, row.ttft_s_p50_high)


def itl(row: LoadRow) -> Interval | None:
    """99th percentile, seconds."""
    return _interval(row.itl_s_p99, row.itl_s_p99_low, row.itl_s_p99_high)


PICTURES: Final = (
    LoadPicture("throughput", "throughput, tokens/s", total, "rate"),
    LoadPicture("pareto", "throughput (per GPU) against tokens/s per user", gpu, "rate", user),
    LoadPicture("ttft", "TTFT, median", ttft, "duration"),
    LoadPicture("itl", "ITL, 99th percentile", itl, "duration"),
)


def load_curves(rows: Sequence[object]) -> tuple[LoadCurves, ...]:
    """The curves of the rows, by axis in the order of the rows; nothing where no method has two loads."""
    found: dict[str, dict[tuple[str, str, str], list[CurvePoint]]] = {}
    for row in rows:
        if isinstance(row, LoadRow) and row.tok_s_total is not None:
            lengths = f"{row.isl or 'prompt'}/{row.osl}" + (f" d{row.depth}" if row.depth else "")
            shape = f" b{row.burstiness:g}" if row.burstiness not in (None, 1.0) else ""
            key = (row.session, row.method, lengths + shape)
            found.setdefault(row.axis, {}).setdefault(key, []).append(CurvePoint(row.load, row))
    return tuple(
        LoadCurves(axis, _curves(by_key))
        for axis, by_key in found.items()
        if len({point.load for points in by_key.values() for point in points}) > 1
    )


def _curves(by_key: dict[tuple[str, str, str], list[CurvePoint]]) -> tuple[LoadCurve, ...]:
    several = len({lengths for _, _, lengths in by_key}) > 1
    return tuple(
        LoadCurve(session, method, lengths if several else "", tuple(sorted(points, key=lambda point: point.load)))
        for (session, method, lengths), points in by_key.items()
    )


def _interval(value: float | None, low: float | None, high: float | None) -> Interval | None:
    """Without an interval the value alone, as its own bounds."""
    if value is None:
        return None
    return Interval(value, value if low is None else low, value if high is None else high)
