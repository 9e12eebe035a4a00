"""Sampling in numpy: the ids that transformers would allow, as likely as it would have them, and no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest

from tests.methods.runner_module import runner_module

Logits = npt.NDArray[np.float32]
LOGITS: Logits = np.log(np.array([0.4, 0.3, 0.15, 0.1, 0.05], np.float32))
DRAWS = 4000
kasoku_sampling = runner_module("kasoku_sampling")


def drawn(asked: Mapping[str, float], logits: Logits = LOGITS, prompt: Sequence[int] = ()) -> Counter[int]:
    """How often each id was chosen, in as many responses of one id."""
    sampling = kasoku_sampling.Sampling({"sampling": {"max_new_tokens": 1, **asked}})
    counts: Counter[int] = Counter()
    for number in range(DRAWS if asked.get("temperature") else 1):
        sampling.begin(number, list(prompt))
        counts[sampling.choose(logits)] += 1
    return counts


def shares(counts: Counter[int]) -> list[float]:
    return [counts[token] / DRAWS for token in range(len(LOGITS))]


def test_without_temperature_it_is_the_likeliest() -> None:
    assert drawn({}) == {0: 1}


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"temperature": 1.0}, [0.4, 0.3, 0.15, 0.1, 0.05]),
        ({"temperature": 1.0, "top_k": 2}, [4 / 7, 3 / 7, 0, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.69}, [4 / 7, 3 / 7, 0, 0, 0]),  # the one that reaches it counts
        ({"temperature": 1.0, "top_p": 0.71}, [8 / 17, 6 / 17, 3 / 17, 0, 0]),
        ({"temperature": 1.0, "top_k": 3, "top_p": 0.45}, [1, 0, 0, 0, 0]),  # 0.4 of the three is 0.47
        ({"temperature": 0.5, "top_p": 0.5}, [1, 0, 0, 0, 0]),  # p is of what temperature has made
        ({"temperature": 1.0, "top_k": 99}, [0.4, 0.3, 0.15, 0.1, 0.05]),
    ],
)
def test_what_is_drawn_is_as_likely_as_it_should_be(asked: dict[str, float], wanted: list[float]) -> None:
    found = shares(drawn(asked))

    assert [share == 0 for share in found] == [share == 0 for share in wanted]
    assert found == pytest.approx(wanted, abs=0.03)  # four standard errors of the widest


def test_those_as_likely_as_the_last_of_k_are_kept() -> None:
    tied = np.array([3.0, 1.0, 1.0, 0.0], np.float32)

    assert set(drawn({"temperature": 2.0, "top_k": 2}, tied)) == {0, 1, 2}


def test_a_penalty_divides_what_is_positive_and_multiplies_what_is_negative() -> None:
    logits = np.array([3.0, 2.0, -1.0], np.float32)
    assert drawn({"repetition_penalty": 2.0}, logits, (0,)) == {1: 1}
    negative = np.array([-1.0, -1.5], np.float32)
    assert drawn({"repetition_penalty": 1.4}, negative, (0, 0)) == {0: 1}  # once, not twice
    assert drawn({"repetition_penalty": 1.6}, negative, (0,)) == {1: 1}


def test_what_was_chosen_is_penalised_from_then_on_and_the_logits_are_left_alone() -> None:
    sampling = kasoku_sampling.Sampling({"sampling": {"max_new_tokens": 3, "repetition_penalty": 2.0}})
    logits = np.array([3.0, 2.0, 1.4], np.float32)
    sampling.begin(1, [])

    assert [sampling.choose(logits) for _ in range(3)] == [0, 1, 0]
    assert logits.tolist() == pytest.approx([3.0, 2.0, 1.4])


def test_a_seed_draws_the_same_again() -> None:
    sampling = kasoku_sampling.Sampling({"sampling": {"max_new_tokens": 50, "temperature": 1.0}})
    responses = []
    for seed in (7, 7, 8):
        sampling.begin(seed, [])
        responses.append([sampling.choose(LOGITS) for _ in range(50)])

    assert responses[0] == responses[1] != responses[2]


def test_how_far_the_best_is_ahead() -> None:
    assert kasoku_sampling.margin_of(np.array([1.0, 4.0, 2.5], np.float32)) == pytest.approx(1.5)
