"""Speed against loss: which figures of a comparison's rows its pictures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sessions.verdict.comparison_row import ComparisonRow
from sessions.verdict.fidelity_figures import Path
from sessions.verdict.statistics import Interval

TICKS: Final = tuple(sign * size * 10.0**power for size in (1, 3) for power in range(2, -4, -1) for sign in (1, -1))
USUAL_FLOOR: Final = 0.005  # nats a token: for the scale of a picture where none is known


@dataclass(frozen=True, slots=True)
class TradeOff:
    """A row's ratio to the reference (1 of the reference itself), and its loss in nats a token; an interval that is not
    known ends in its estimate."""

    row: ComparisonRow
    speed: Interval
    loss: Interval


@dataclass(frozen=True, slots=True)
class TradeOffs:
    """What can be drawn, on which path, with the floor in nats a token where one is known; `left_out` are the methods
    without a speed or a loss."""

    path: Path
    floor: float | None
    drawn: tuple[TradeOff, ...]
    left_out: tuple[str, ...]

    @property
    def losses(self) -> list[float]:
        """What a scale of the loss has to hold: 0, the ends of all intervals, and of the floor."""
        ends = [value for one in self.drawn for value in (one.loss.low, one.loss.high)]
        return [*ends, 0.0, *((-self.floor, self.floor) if self.floor is not None else ())]

    @property
    def where(self) -> str:
        """The path in words."""
        return "decoding" if self.path == "decode" else "prefill"

    @property
    def remark(self) -> str:
        """Which methods are not there; empty if all are."""
        if not self.left_out:
            return ""
        return f"Not drawn, without a speed or a loss in {self.where}: {', '.join(self.left_out)}."


def trade_offs(rows: Sequence[ComparisonRow]) -> TradeOffs | None:
    """Loss is that of decoding, in which most of the time goes, where any row has it; None where no row has any."""
    in_decode = any(row.dnll_decode is not None for row in rows)
    drawn, left_out = [], []
    floors: list[float] = []
    for row in rows:
        told, floor = (row.loss_decode, row.fidelity_floor_decode) if in_decode else (row.loss, row.fidelity_floor)
        speed = _speed(row)
        if told is None or speed is None:
            left_out.append(row.method)
            continue
        loss, low, high = told
        drawn.append(TradeOff(row, speed, Interval(loss, loss if low is None else low, loss if high is None else high)))
        floors += [floor] if floor is not None else []
    if not drawn:
        return None
    return TradeOffs(
        "decode" if in_decode else "prefill",
        max(floors, default=None),
        tuple(drawn),
        tuple(dict.fromkeys(left_out)),
    )


def _speed(row: ComparisonRow) -> Interval | None:
    if row.ratio is not None:
        low, high = row.ratio_interval or (row.ratio, row.ratio)
        return Interval(row.ratio, low, high)
    is_reference = row.tok_s_mean is not None and row.reference in (None, row.method)
    return Interval(1.0, 1.0, 1.0) if is_reference else None
