"""What is put together of the parts of a vLLM that is a pipeline; no vLLM is loaded."""

from __future__ import annotations

from types import SimpleNamespace

from tests.methods.runner_module import runner_module


def test_a_part_that_chooses_no_token_has_nothing_to_force_and_none_to_score() -> None:
    part = runner_module("kasoku_vllm_forcing").ForcedIds()
    part.model_runner = SimpleNamespace()
    part.kasoku_force_begins([1, 2])
    assert part.kasoku_force_ends() == {"nll": [], "top1": [], "file": None}


def test_what_the_parts_of_a_profiled_step_called_is_added_up() -> None:
    summed = runner_module("kasoku_engines/kasoku_vllm").summed
    assert summed([{"attention": 15, "send": 1}, {"attention": 15, "recv": 1}]) == {
        "attention": 30, "send": 1, "recv": 1,
    }  # fmt: skip
    assert summed([{"attention": 3}]) == {"attention": 3}
