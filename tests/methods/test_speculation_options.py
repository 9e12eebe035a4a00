"""What the option `speculation` may say, and what vLLM is told of it."""

from __future__ import annotations

import pytest

from tests.methods.runner_module import runner_module

OWN = {"by": "draft-model", "tokens": 5}
JOB = {"engine": "vllm", "converted_folder": "/made/of-first-layers"}


@pytest.mark.parametrize(
    ("speculation", "told"),
    [
        (
            {"by": "ngram", "tokens": 8, "longest_match": 3},
            {"method": "ngram", "num_speculative_tokens": 8, "prompt_lookup_max": 3, "prompt_lookup_min": 1},
        ),
        (OWN, {"method": "draft_model", "model": "/made/of-first-layers", "num_speculative_tokens": 5}),
        (
            {**OWN, "draft": "/models/smaller"},
            {"method": "draft_model", "model": "/models/smaller", "num_speculative_tokens": 5},
        ),
    ],
)
def test_vllm_is_told_who_drafts(speculation: dict[str, object], told: dict[str, object]) -> None:
    assert runner_module("kasoku_vllm_speculation").speculative_config(JOB, speculation) == told


@pytest.mark.parametrize(
    "speculation", [{}, {"by": "ngram", "tokens": 8}, {**OWN, "longest_match": 3}, {"by": "assistant", "tokens": 5}]
)
def test_what_vllm_does_not_take_is_said(speculation: dict[str, object]) -> None:
    module = runner_module("kasoku_vllm_speculation")
    with pytest.raises(module.UnsupportedError, match="The option speculation is"):
        module.speculative_config(JOB, speculation)


@pytest.mark.parametrize(
    "speculation",
    [
        {"by": "prompt-lookup", "tokens": 8, "longest_match": 3},
        {"by": "assistant", "tokens": 5},
        {"by": "assistant", "tokens": 5, "draft": "/models/smaller"},
    ],
)
def test_transformers_takes_a_look_up_or_a_draft_model(speculation: dict[str, object]) -> None:
    assert runner_module("kasoku_speculating").checked(speculation) == speculation


@pytest.mark.parametrize(
    "speculation", [{}, {"by": "prompt-lookup", "tokens": 8, "draft": "/x"}, {"by": "assistant"}, {"by": "ngram"}]
)
def test_what_transformers_does_not_take_is_said(speculation: dict[str, object]) -> None:
    module = runner_module("kasoku_speculating")
    with pytest.raises(module.UnsupportedError, match="The option speculation is"):
        module.checked(speculation)
