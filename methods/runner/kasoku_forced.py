"""The job `forced`: an engine is given ids, and its logits at each of them are kept or compared with those kept.

{"engine": …, "options": …, "model_folder": …, "dtype": …, "device": …, "threads": …, "ids": [int],
 "logits": a .npy file, "keep": true to write it, false to compare with it}

Result: {} or {"unexplained": float}: of two models, with the logits of each position centred over the vocabulary,

    sum of (ours - theirs)² / sum of theirs²

that is the share of the variance of the kept logits that ours do not have. It does not depend on the scale of a model's
logits, so one bound fits trained and random weights: two that have nothing in common come to about 2.
"""

from __future__ import annotations

import kasoku_engine
from kasoku_failure import UnsupportedError


def run(job: dict, wire: object) -> None:
    import numpy

    ids = list(job["ids"])
    request = {"request": 0, "warmup": False, "prompt_index": 0, "seed": 0}
    sampling = {"max_new_tokens": len(ids), "temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    engine = kasoku_engine.take_engine(job["engine"])
    whole = {**job, "prompts": [ids[:1]], "requests": [request], "sampling": sampling, "seed": 0}
    wire.progress("forced", "importing the engine")
    engine.import_packages(whole)
    wire.progress("forced", "loading the model")
    engine.load(whole)
    wire.progress("forced", "forcing %d ids through it" % len(ids))
    scores = engine.score_prefill(ids, len(ids) - 1)
    engine.close()
    if scores.log_probs is None:
        raise UnsupportedError("The engine %s does not hand out its logits, so nothing can be checked." % job["engine"])
    rows = numpy.asarray(scores.log_probs, dtype=numpy.float64)
    if job.get("keep"):
        numpy.save(job["logits"], rows.astype(numpy.float32))
        wire.result({})
    else:
        theirs = numpy.load(job["logits"], allow_pickle=False).astype(numpy.float64)
        wire.result({"unexplained": unexplained(theirs, rows)})


def unexplained(theirs: object, ours: object) -> float | None:
    """The share of the variance of `theirs` (positions × vocabulary) that `ours` do not have; None where one of them
    is not finite, or they are not of one shape.
    """
    import numpy

    if theirs.shape != ours.shape or not (numpy.isfinite(theirs).all() and numpy.isfinite(ours).all()):
        return None
    theirs = theirs - theirs.mean(axis=1, keepdims=True)
    ours = ours - ours.mean(axis=1, keepdims=True)
    return float(((ours - theirs) ** 2).sum() / (theirs**2).sum())
