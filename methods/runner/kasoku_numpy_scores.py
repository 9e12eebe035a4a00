"""Scores from logits in numpy, for engines without torch."""

from __future__ import annotations

from kasoku_engine import Scores


def scores_of_rows(rows: object, ids: list) -> Scores:
    """The scores of `ids` from logits, or log probabilities, [ids, vocabulary], each row of the place of its id."""
    import numpy

    log_probs = numpy.empty(rows.shape, numpy.float32)
    nll = []
    for place, (row, token) in enumerate(zip(rows, ids)):
        shifted = row.astype(numpy.float64)
        shifted -= shifted.max()
        shifted -= numpy.log(numpy.exp(shifted).sum())
        nll.append(float(-shifted[token]))
        log_probs[place] = shifted
    return Scores(nll, [int(row.argmax()) for row in rows], log_probs)
