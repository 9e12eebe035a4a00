"""The cost of measuring: tokens/s with each added part of the workbench, against a loop without streaming.

    kasoku calibrate METHOD

A round runs every condition twice in one process, in an order that is drawn and then mirrored (ABBA), so that a drift
falls on all alike. A condition's value in a round is the geometric mean of its two requests. Its ratio to the bare
loop, which each round has four times, is estimated from the rounds' paired log ratios. `bare again` is two of those
four, against the other two: the noise floor of the method.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Final

import msgspec

from probes.machine import Machine
from sessions.verdict.kept_results import KeptResults
from sessions.verdict.statistics import paired_ratio

BARE: Final = "bare"
AGAIN: Final = "bare again"
RUNNER: Final = "runner"
TELEMETRY: Final = "+ telemetry"
JOURNAL: Final = "+ journal, a viewer"
APP: Final = "+ the full-screen app"
SLOW_APP: Final = "+ the app, slow link"
WATCHED: Final = (JOURNAL, APP, SLOW_APP)  # a viewer's each
CONDITIONS: Final = (BARE, AGAIN, RUNNER, TELEMETRY, *WATCHED)
BETWEEN: Final = " · "


@dataclass(frozen=True, slots=True)
class Slot:
    """One request of a round: its condition, and its tokens/s once it was measured."""

    round: int
    condition: str
    tok_s: float


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens/s under a condition: median, and the cost relative to the bare loop, with its 95 % interval.

    The cost is 1 − ratio: positive where the condition is slower. The bounds are None under three rounds.
    """

    condition: str
    tok_s_median: float
    rounds: int
    cost: float
    cost_low: float | None
    cost_high: float | None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """One calibration: what, where, when, and the effect of each condition."""

    method: str
    model: str
    device: str
    t_realtime_ns: int
    tokens_per_request: int
    processes: int
    app_cpu_percent: float | None
    machine: Machine
    software: dict[str, str]
    effects: list[Effect]
    concurrency: int | None = None  # requests in flight; None: one after another
    slots: list[Slot] = []  # what the effects are computed from

    @property
    def load(self) -> str:
        """How many requests were in flight, in words after the method's; empty for one after another."""
        return "" if self.concurrency is None else f" with {self.concurrency} in flight"

    def effect(self, condition: str) -> Effect | None:
        return next((effect for effect in self.effects if effect.condition == condition), None)

    @property
    def resolution(self) -> float | None:
        """The largest apparent cost of the bare loop against itself, as a share: nothing smaller can be detected."""
        return resolution_of(self.effects, AGAIN)

    def sentence(self) -> str:
        """The result as a sentence."""
        effect = self.effect(JOURNAL) or self.effect(APP)
        if effect is None or effect.cost_low is None or effect.cost_high is None:
            return ""
        if effect.cost_high < 0:  # nothing costs less than nothing: the two differ in something else
            faster, low, high = (-100 * each for each in (effect.cost, effect.cost_high, effect.cost_low))
            return (
                f"what measuring costs is not known: {self.method}{self.load} was {faster:.1f} % faster with it than a"
                f" bare loop ({low:.1f} to {high:.1f} %) on this device"
            )
        return (
            f"measuring costs {100 * effect.cost:.1f} % of tokens/s"
            f" ({100 * effect.cost_low:.1f} to {100 * effect.cost_high:.1f} %; {self.method}{self.load} on this device)"
        )


def conditions_with(parts: Collection[str]) -> list[str]:
    """The conditions of a calibration of these parts, in order; both bare ones are always included."""
    return [condition for condition in CONDITIONS if condition in (BARE, AGAIN) or condition in parts]


def drawn_order(conditions: Sequence[str], seed: int) -> list[str]:
    """One round: every condition once in random order, then the same backwards."""
    order = list(conditions)
    random.Random(seed).shuffle(order)  # noqa: S311 - an order, not a secret
    return order + order[::-1]


def effects(slots: Sequence[Slot], conditions: Sequence[str] = CONDITIONS) -> list[Effect]:
    """Each condition's effect against every bare request of a round, from the rounds that have all that it takes.

    The first two of the `conditions` are the bare ones: they are the same, and compared only with each other.
    """
    bare, again, *_ = conditions
    by_round: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for slot in slots:
        by_round[slot.round][slot.condition].append(slot.tok_s)
    found = []
    for condition in conditions:
        against = (bare,) if condition in (bare, again) else (bare, again)
        pairs = [
            (geometric_mean(values[condition]), geometric_mean([each for name in against for each in values[name]]))
            for values in by_round.values()
            if all(len(values[name]) == 2 for name in (condition, *against))
        ]
        own = [pair[0] for pair in pairs]
        ratio = paired_ratio(own, [pair[1] for pair in pairs])
        if ratio is None:
            continue
        interval = ratio.interval()
        found.append(
            Effect(
                condition=condition,
                tok_s_median=median(own),
                rounds=len(pairs),
                cost=1 - ratio.ratio,
                cost_low=1 - interval.high if interval else None,
                cost_high=1 - interval.low if interval else None,
            )
        )
    return found


def resolution_of(found: Sequence[Effect], again: str) -> float | None:
    """The largest apparent cost of what costs nothing, as a share; None where its interval is not known."""
    effect = next((each for each in found if each.condition == again), None)
    if effect is None or effect.cost_low is None or effect.cost_high is None:
        return None
    return max(abs(effect.cost_low), abs(effect.cost_high))


_KEPT: Final = KeptResults("observer-effects.json", dict[str, Calibration])  # by device, method and load
known = _KEPT.known


def keep(home: Path, key: str, calibration: Calibration) -> None:
    """Store a method's effect on a device, replacing an older one of the same load. Raises HomeError."""
    _KEPT.keep(home, _name(key, calibration), calibration)


def on_device(calibrations: Mapping[str, Calibration], key: str) -> list[Calibration]:
    """Those made on the device of that key (see `device_key`)."""
    return [each for name, each in calibrations.items() if name == _name(key, each)]


def quoted(calibrations: Sequence[Calibration], methods: Collection[str], loads: Collection[int]) -> list[Calibration]:
    """Those of a device that concern a session of these methods, with so many in flight at its points: of its loads, or
    where there are none, of one request after another; its own methods', or where there are none, any other's."""
    of_load = [each for each in calibrations if each.concurrency in loads]
    beside = of_load or [each for each in calibrations if each.concurrency is None]
    return [each for each in beside if each.method in methods] or beside[:1]


def _name(key: str, calibration: Calibration) -> str:
    load = "" if calibration.concurrency is None else f"{BETWEEN}c{calibration.concurrency}"
    return f"{key}{BETWEEN}{calibration.method}{load}"
