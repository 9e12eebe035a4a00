"""Scores of forced ids from an engine's logits, and what an engine without them says."""

from __future__ import annotations

import numpy as np
import pytest

from tests.methods.runner_module import runner_module


def test_scores_are_natural_log_probabilities_whatever_is_added_to_the_logits() -> None:
    rows = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32)) + np.float32(30)
    scores = runner_module("kasoku_numpy_scores").scores_of_rows(rows, [1, 2])

    assert scores.nll == pytest.approx([-np.log(0.25), -np.log(0.7)], rel=1e-5)
    assert scores.top1 == [0, 2]
    assert scores.log_probs.dtype == np.float32
    assert np.exp(scores.log_probs) == pytest.approx(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]), rel=1e-5)


def test_an_engine_that_cannot_score_says_so() -> None:
    module = runner_module("kasoku_engine")
    engine = module.Engine()

    with pytest.raises(module.UnsupportedError, match="scores no prompt"):
        engine.score_prefill([1, 2], 1)
    with pytest.raises(module.UnsupportedError, match="forces no ids"):
        engine.score_decode([1, 2], 1)
