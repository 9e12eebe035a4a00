"""A trial of the step beside transformers, once a model is loaded: its config alone does not tell every oddity."""

from __future__ import annotations

from kasoku_engine import UnsupportedError
from kasoku_forced import unexplained

IDS = 5
MOST = 0.02  # of the variance of what transformers has: of logits rounding comes to 0.001, another architecture to 1


def check(engine: object, vocabulary: int, length: int) -> None:
    """Raise UnsupportedError where the engine's two paths do not give the same logits for the same ids."""
    import numpy

    ids = [(1 + 977 * place) % vocabulary for place in range(min(IDS, length))]
    by_transformers, by_step = (score(ids, len(ids) - 1) for score in (engine.score_prefill, engine.score_decode))
    rest = unexplained(*(numpy.asarray(each.log_probs, dtype=numpy.float64) for each in (by_transformers, by_step)))
    if rest is None:
        raise UnsupportedError("The model's logits are not finite in this dtype; use another --dtype.")
    if rest > MOST:
        raise UnsupportedError(
            "resident does not compute what transformers does with this model: %.0f %% of its logits' variance differs,"
            " so its architecture is not supported." % (100 * min(rest, 1.0))
        )
