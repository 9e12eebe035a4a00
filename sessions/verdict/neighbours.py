"""What rounds side by side cost each other: a method's tokens/s with others beside it, against itself alone.

    kasoku calibrate METHOD --neighbours N

One process of the method is measured on its part of the device; N − 1 more are at work on the other parts, or stopped
where they are. A round has each condition twice, drawn and mirrored; the statistics are those of the observer effect.
Kept by device, method and N in the home's cache, and shown with the sessions that spread over as many parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from probes.machine import Machine
from sessions.device.device_key import device_key
from sessions.disk.plan import Plan
from sessions.disk.session_folder import SessionFile
from sessions.frames.flag import Flag
from sessions.verdict.kept_results import KeptResults
from sessions.verdict.observer_effect import BETWEEN, Effect, Slot, resolution_of

ALONE: Final = "alone"
AGAIN: Final = "alone again"
BESIDE: Final = "with neighbours"
CONDITIONS: Final = (ALONE, AGAIN, BESIDE)
BOUND: Final = 0.01  # of tokens/s: a cost that may be above it is flagged
NAME: Final = "neighbours"
UNKNOWN: Final = (
    "what {lanes} rounds at once cost each other is not known here: `kasoku calibrate {method} --neighbours {lanes}`"
)


class Neighbours(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration: of which method, with how many at work (`lanes`), and the effect of each condition."""

    method: str
    model: str
    device: str
    lanes: int
    t_realtime_ns: int
    tokens_per_request: int
    processes: int
    machine: Machine
    software: dict[str, str]
    effects: list[Effect]
    slots: list[Slot]  # what the effects are computed from

    @property
    def cost(self) -> Effect | None:
        """What the neighbours cost; None under one whole round."""
        return next((effect for effect in self.effects if effect.condition == BESIDE), None)

    @property
    def resolution(self) -> float | None:
        """The largest apparent cost of nothing, as a share: no smaller one can be detected."""
        return resolution_of(self.effects, AGAIN)

    @property
    def largest(self) -> float | None:
        """The largest cost that the interval leaves open, as a share; None where there is none."""
        return None if self.cost is None else self.cost.cost_high

    def sentence(self) -> str:
        """The cost and its interval as a sentence, empty without an interval."""
        cost = self.cost
        if cost is None or cost.cost_low is None or cost.cost_high is None:
            return ""
        return f"{self.lanes} rounds at once cost each other {self._interval(cost)} of tokens/s ({self.method} here)"

    def flag(self) -> Flag | None:
        """For the rows of a session with as many rounds at once, where the cost may be above the bound."""
        if self.cost is None or self.largest is None or self.largest <= BOUND:
            return None
        return Flag(NAME, f"{self.lanes} rounds at once cost {self.method} {self._interval(self.cost)} of its tokens/s")

    @staticmethod
    def _interval(cost: Effect) -> str:
        low, high = 100 * (cost.cost_low or 0.0), 100 * (cost.cost_high or 0.0)
        return f"{100 * cost.cost:.1f} % ({low:.1f} to {high:.1f} %)"


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of the neighbours in sessions, by session, of those that spread."""

    known: Mapping[str, Sequence[Neighbours]]
    plans: Mapping[str, Plan]

    def flags(self, session: str, method: str) -> tuple[str, ...]:
        """The flag of a method's row: of its own calibration, or without one, of the one that costs the most."""
        kept = self.known.get(session, ())
        row = next((each.row for each in self.plans[session].methods if each.name == method), method) if kept else ""
        own = [each for each in kept if each.method == row] or sorted(kept, key=lambda each: each.largest or 0.0)[-1:]
        return tuple(str(flag) for each in own if (flag := each.flag()) is not None)

    def sentences(self) -> tuple[str, ...]:
        """One for each calibration of the sessions' devices, methods of theirs first; or that there is none."""
        said: dict[str, None] = {}
        for session, kept in self.known.items():
            plan = self.plans[session]
            rows = {method.row for method in plan.methods}
            concerns = [each for each in kept if each.method in rows] or list(kept)
            told = [sentence for each in concerns if (sentence := each.sentence())]
            unknown = UNKNOWN.format(lanes=plan.lanes, method=plan.methods[0].row)
            said |= dict.fromkeys(told or [unknown])
        return tuple(said)


_KEPT: Final = KeptResults("neighbours.json", dict[str, Neighbours])  # by device, method and number of lanes
known = _KEPT.known


def keep(home: Path, key: str, neighbours: Neighbours) -> None:
    """Store a method's neighbours on a device, replacing older ones of as many lanes. Raises HomeError."""
    _KEPT.keep(home, _name(key, neighbours), neighbours)


def beside(home: Path, files: Mapping[str, SessionFile]) -> Beside:
    """What is known of those of these sessions that measured rounds side by side."""
    plans = {session: file.plan for session, file in files.items() if file.plan.lanes > 1 and file.plan.methods}
    kept = known(home) if plans else {}
    by_session = {
        session: [
            each
            for name, each in kept.items()
            if each.lanes == plan.lanes and name == _name(device_key(plan, files[session].machine), each)
        ]
        for session, plan in plans.items()
    }
    return Beside(by_session, plans)


def _name(key: str, neighbours: Neighbours) -> str:
    return BETWEEN.join((key, neighbours.method, str(neighbours.lanes)))
