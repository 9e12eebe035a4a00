"""The verdict on a method's fidelity in words, which its interval and the floor support.

Losses below the floor are not told apart, so nothing there is ranked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sessions.verdict.fidelity_figures import Figures
from sessions.verdict.fidelity_floor import Floor, further
from sessions.verdict.fidelity_words import flipped, nats, nats_range
from sessions.verdict.statistics import Interval

UNKNOWN_FLOOR: Final = "no floor is known here: `kasoku calibrate --fidelity`"

Kind = Literal["identical", "no loss found", "differs", "open", "no floor", "not measured"]


@dataclass(frozen=True, slots=True)
class FidelityVerdict:
    kind: Kind
    sentence: str


def not_measured(reason: str) -> FidelityVerdict:
    """Of a method that was not scored on this path."""
    return FidelityVerdict("not measured", f"cannot be measured here: {reason}")


def judge(whole: Figures, judged: Figures, floor: Floor | None) -> FidelityVerdict:
    """The verdict on `judged`, which are the windows that did not make the floor; the figures said are of `whole`.

    A method differs where its interval lies beyond the floor on either side, or where the share of confident tokens
    that flip or the divergence does with its whole interval; nothing is lost where the interval lies within; else it is
    open.
    """
    if whole.non_finite:
        said = f"{whole.non_finite} of {whole.tokens} scores are not finite numbers"
        return FidelityVerdict("differs", f"differs: {said}")
    loss, own = whole.loss, judged.loss
    if loss is None or own is None:
        return not_measured("its scores are not complete")
    if whole.identical:
        return FidelityVerdict("identical", f"no loss found: all {whole.tokens} scores are the reference's")
    interval, shown = own.interval(), loss.interval()
    if interval is None or shown is None:
        return FidelityVerdict("open", f"{nats(loss.estimate)} nats a token; too few windows for an interval")
    flips = _flips(whole)
    if floor is None:
        return FidelityVerdict("no floor", f"{_with_range(shown)}, {flips}; {UNKNOWN_FLOOR}")
    if interval.low > floor.nats or interval.high < -floor.nats:
        return FidelityVerdict("differs", f"differs by {_with_range(shown)}, {flips}")
    limit = f"the floor of {nats(floor.nats)}"
    agreed = judged.clear_agreement
    if agreed is not None and 1 - agreed.high > floor.flips:
        said = f"differs: {flips}, though the loss of {_with_range(shown)} is not above {limit}"
        return FidelityVerdict("differs", said)
    if (times := further(whole, judged, floor)) is not None:
        said = f"differs: it diverges {times:.1f} times as far as the floor, though the loss of {_with_range(shown)}"
        return FidelityVerdict("differs", f"{said} is not above {limit}")
    if -floor.nats <= interval.low and interval.high <= floor.nats:
        return FidelityVerdict(
            "no loss found", f"no loss found: at most {_at_most(interval)} nats a token, below {limit}"
        )
    return FidelityVerdict("open", f"not decided: {_with_range(shown)}, which reaches beyond {limit}")


def _at_most(interval: Interval) -> str:
    return nats(max(interval.high, 0.0))


def _with_range(interval: Interval) -> str:
    return f"{nats(interval.estimate)} nats a token ({nats_range(interval.low, interval.high)})"


def _flips(figures: Figures) -> str:
    agreed = figures.clear_agreement
    if agreed is None:
        return "no token is confident"
    return (
        "no confident token flips"
        if agreed.estimate == 1
        else f"{flipped(1 - agreed.estimate)} of confident tokens flip"
    )
