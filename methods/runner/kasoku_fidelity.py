"""The phase `fidelity` of a block: the session's windows through the engine that was timed, on both of its paths."""

from __future__ import annotations

import math
import traceback

import kasoku_failure
import kasoku_scores
import kasoku_wire
from kasoku_engine import Engine, Scores

PATHS = ("prefill", "decode")


def scorer(engine: Engine, path: str) -> object:
    """The engine's method that scores on this path."""
    return engine.score_prefill if path == "prefill" else engine.score_decode


def run(engine: Engine, fidelity: dict, wire: object) -> None:
    """Send the scores of each of `windows` ({ids, scored}), and how far they diverge from the distributions in
    `folder`. What fails is the reason why a path has no scores, or none from there on.
    """
    for path in PATHS:
        reason = why_not(lambda path=path: score(engine, path, fidelity, wire))
        if reason:
            wire.send("unscored", t=wire.clock(), path=path, reason=reason)


def score(engine: Engine, path: str, fidelity: dict, wire: object) -> None:
    """Send the scores of the windows on one path."""
    distributions = kasoku_scores.Distributions(fidelity["folder"], path)
    first = 0
    for number, window in enumerate(fidelity["windows"]):
        scores = checked(scorer(engine, path)(list(window["ids"]), window["scored"]), window["scored"])
        said = distributions.divergence(first, scores.log_probs)
        nll = [finite(each) for each in scores.nll]
        top1 = [None if own is None else int(best) for own, best in zip(nll, scores.top1)]
        wire.send("scores", t=wire.clock(), path=path, window=number, nll=nll, top1=top1, **said)
        first += window["scored"]


def why_not(carry_out: object) -> str:
    """The sentence of what fails, "" where nothing does."""
    try:
        carry_out()
    except kasoku_wire.ReaderGoneError:
        raise
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return kasoku_failure.sentence_of(error)
    return ""


def checked(scores: Scores, scored: int) -> Scores:
    """The scores, if there is one for each id that was to be scored. Raises RuntimeError."""
    if len(scores.nll) != scored or len(scores.top1) != scored:
        raise RuntimeError("The engine scored %d ids of %d." % (len(scores.nll), scored))
    return scores


def finite(value: float) -> float | None:
    """The number, None where it is none that JSON has."""
    return float(value) if math.isfinite(value) else None
