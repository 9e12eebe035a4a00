"""The fidelity floor: how large a loss appears where there is none, from other arithmetic and rounding alone.

Methods with the reference's weights and precision show it (`fidelity_floor = true` in the catalogue): the reference's
own arithmetic in another process, another attention kernel, float32. It is measured in the session on half of the
windows, the methods being judged on the other half; or by `kasoku calibrate --fidelity`, which keeps it per model,
environment and device in the home's cache.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from sessions.verdict.fidelity_figures import Figures, Mean, Path, ratio_of_sums, wilson
from sessions.verdict.kept_results import KeptResults
from sessions.verdict.statistics import CONFIDENCE, t_quantile

BETWEEN: Final = " · "
# How many times the floor's a divergence may be where nothing is lost: of seven unquantised engines none diverged over
# 1.1 times as far in the same windows (its interval ends at 1.2), and none over 1.2 times by the means of all.
FURTHER: Final = 1.25
FURTHER_ELSEWHERE: Final = 2.0


class FloorWindow(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How far a method of the floor diverges in a window, and what tells the window: sums over its tokens, in nats."""

    number: int
    nll_reference: float
    kl: float


class Floor(msgspec.Struct, frozen=True, kw_only=True):
    """`nats` a token, which the upper end of an interval stays below where nothing is lost; `flips` likewise, the share
    of tokens outside near ties at which the likeliest token is not the reference's. `divergence` is the KL, in nats a
    token, of methods that compute the same; None where it is not known. `by_window` has that of the one that
    diverges furthest."""

    nats: float
    flips: float
    divergence: float | None = None
    by_window: list[FloorWindow] = []
    methods: list[str]
    session: str
    windows: int


Floors = dict[Path, Floor]  # by path


def floor_of(
    figures: Mapping[str, Figures], session: str, judged: int, whole: Mapping[str, Figures] | None = None
) -> Floor | None:
    """The floor that these methods show, for intervals from `judged` windows; None where it cannot be known. `whole`
    has the methods' figures over all windows, where `figures` are of some.

    It is the largest of the methods'. A method's mean m and error s/√W over W windows say where the mean of V windows
    of another such measurement lies, and how far above it the upper end of its interval: below
    |m| + t s (√(1/W + 1/V) + 1/√V) in 97.5 of 100 cases. A method whose scores equal the reference's bit for bit
    says nothing about rounding, so alone it makes no floor.
    """
    reaches = {name: reach for name, own in figures.items() if (reach := _reach(own, judged)) is not None}
    nats = max(reaches.values(), default=0.0)
    if nats <= 0:
        return None
    flips = [_flips(figures[name]) for name in reaches]
    windows = min(len(figures[name].windows) for name in reaches)
    divergences = [reach for name in reaches if (reach := _divergence(figures[name])) is not None]
    return Floor(
        nats=nats,
        flips=max(flips),
        divergence=max(divergences, default=None),
        by_window=_by_window([(whole or figures)[name] for name in reaches]),
        methods=list(reaches),
        session=session,
        windows=windows,
    )


def further(whole: Figures, judged: Figures, floor: Floor) -> float | None:
    """How many times as far as the floor a method diverges from the reference, where its whole interval lies beyond
    what computing the same gives; else None.

    A divergence cannot cancel out as losses do. It differs between windows as their texts do, for the floor's methods
    alike, so that of the same windows the ratio of both is known far better than either. Where the floor is of other
    windows, only the mean over those that are `judged` can be compared.
    """
    ratio = _paired(whole, floor)
    if ratio is not None:
        interval = ratio.interval()
        return ratio.estimate if interval is not None and interval.low > FURTHER else None
    mean = judged.divergence
    interval = mean.interval() if mean is not None else None
    if mean is None or interval is None or not floor.divergence:
        return None
    return mean.estimate / floor.divergence if interval.low > FURTHER_ELSEWHERE * floor.divergence else None


def _paired(figures: Figures, floor: Floor) -> Mean | None:
    """The divergence ÷ the floor's in the same windows; None where the floor lacks one, or a value is not known."""
    known = {(each.number, each.nll_reference): each.kl for each in floor.by_window}
    pairs = [(window.kl, known.get((window.number, window.nll_reference))) for window in figures.windows]
    both = [(kl, own) for kl, own in pairs if kl is not None and own is not None and math.isfinite(kl)]
    if len(both) < len(pairs) or sum(own for _, own in both) <= 0:
        return None
    return ratio_of_sums(*zip(*both, strict=True))


def _by_window(figures: Sequence[Figures]) -> list[FloorWindow]:
    """Of the one of these that diverges furthest; none where that is not known of any."""
    told = [(mean.estimate, place) for place, own in enumerate(figures) if (mean := own.divergence) is not None]
    if not told:
        return []
    windows = figures[max(told)[1]].windows
    return [
        FloorWindow(number=window.number, nll_reference=window.nll_reference, kl=window.kl)
        for window in windows
        if window.kl is not None
    ]


def _reach(figures: Figures, judged: int) -> float | None:
    loss = figures.loss
    if loss is None or loss.error is None or judged < 1:
        return None
    spread = loss.error * math.sqrt(loss.windows)
    further = math.sqrt(1 / loss.windows + 1 / judged) + 1 / math.sqrt(judged)
    return abs(loss.estimate) + t_quantile(CONFIDENCE, min(loss.windows, max(judged, 2)) - 1) * spread * further


def _divergence(figures: Figures) -> float | None:
    """The upper end of the mean divergence; None where it is not known, or where it is of scores that are the same."""
    mean = figures.divergence
    interval = mean.interval() if mean is not None else None
    return interval.high if interval is not None and interval.high > 0 else None


def _flips(figures: Figures) -> float:
    """The upper end of the share of clear tokens that flip; 1 where there is no such token."""
    clear = sum(window.clear for window in figures.windows)
    return wilson(clear - sum(window.equal_clear for window in figures.windows), clear)[1] if clear else 1.0


def floor_key(device: str, environment: str, model: str) -> str:
    """What a kept floor holds for; `device` as of `device_key`, `model` a digest of the weights."""
    return BETWEEN.join((device, environment, model))


def kept_for(kept: Mapping[str, Floors], device: str, environment: str | None, model: str) -> Floors | None:
    """The kept floor for these; of any environment where that of the reference is not told."""
    if environment is not None:
        return kept.get(floor_key(device, environment, model))
    start, end = f"{device}{BETWEEN}", f"{BETWEEN}{model}"
    return next((floors for key, floors in kept.items() if key.startswith(start) and key.endswith(end)), None)


_KEPT: Final = KeptResults("fidelity-floors.json", dict[str, Floors])  # by `floor_key`
keep, known = _KEPT.keep, _KEPT.known
