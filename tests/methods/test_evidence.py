"""Judging: what holds, what fails and why, what could not be checked."""

from __future__ import annotations

import pytest

from methods.catalogue.evidence import CONDITIONS, judge, problem_of

SEEN: dict[str, object] = {
    "attention_ops": ["aten::_scaled_dot_product_flash_attention_for_cpu"],
    "attention_implementation": "sdpa",
    "cache": "static",
    "wrapper": None,
    "compiled_frames": 2,
    "compiled_regions_run": 3,
    "graph_breaks": 1,
    "recompiles_timed": 1,
    "cuda_graphs": None,
    "converted_modules": 0,
    "cached_prompt_tokens": 12,
    "quantised_as": ["Int8Tensor (float32, int8)"],
    "quantised_layers": 13,
    "plain_layers": 1,
    "activations": ["bfloat16"],
    "matmul_ops": ["aten::_weight_int8pack_mm", "aten::mm"],
    "kv_dtypes": ["float8_e4m3fn"],
    "tuned_kernels": 4,
    "drafter": "NgramProposer",
    "drafted_tokens": 30,
    "missing": {"cuda_graphs": "This device has no CUDA graphs."},
}


@pytest.mark.parametrize(
    ("condition", "holding", "failing"),
    [
        ("attention_op_any", ["math", "flash_attention"], ["efficient"]),
        ("attention_op_none", ["efficient"], ["flash"]),
        ("attention_implementation", "sdpa", "eager"),
        ("attention_implementation_not", "eager", "sdpa"),
        ("cache", "static", "dynamic"),
        ("compiled_frames_min", 2, 3),
        ("compiled_frames_max", 2, 1),
        ("compiled_regions_run_min", 3, 4),
        ("graph_breaks_max", 1, 0),
        ("recompiles_timed_max", 1, 0),
        ("converted_modules_min", 0, 1),
        ("cached_prompt_tokens_max", 12, 11),
        ("quantised_as", ["Int8Tensor"], ["Float8Tensor", "Params4bit"]),
        ("quantised_layers_min", 13, 14),
        ("plain_layers_max", 1, 0),
        ("activations_any", ["float16"], ["int8"]),
        ("activations_none", ["int8", "float8"], ["bfloat"]),
        ("matmul_op_any", ["int8pack"], ["gemv_4bit"]),
        ("matmul_op_none", ["gemv_4bit"], ["::mm"]),
        ("kv_dtypes", ["float8", "uint8"], ["bfloat16"]),
        ("tuned_kernels_min", 4, 5),
        ("drafter", "NgramProposer", "DraftModelProposer"),
        ("drafted_tokens_min", 30, 31),
    ],
)
def test_a_condition_tells_what_holds_from_what_does_not(condition: str, holding: object, failing: object) -> None:
    assert judge({condition: holding}, SEEN).in_effect is True
    assert judge({condition: failing}, SEEN).in_effect is False


def test_the_wrapper_is_in_effect_once_frames_are_compiled() -> None:
    must_show = {"wrapper": "OptimizedModule", "compiled_frames_min": 1}

    assert judge(must_show, {"wrapper": "OptimizedModule", "compiled_frames": 1}).in_effect is True
    assert judge(must_show, {"wrapper": "OptimizedModule", "compiled_frames": 0}).in_effect is False
    assert judge(must_show, {"wrapper": None, "compiled_frames": 1}).in_effect is False


def test_a_failing_condition_is_explained_in_the_methods_words() -> None:
    must_show = {"compiled_frames_min": 3, "cache": "static", "why_not": {"compiled_frames_min": "nobody called it"}}

    assert judge(must_show, SEEN).reason == "2 frames were compiled: nobody called it."


def test_a_missing_fact_is_neither_yes_nor_no_and_says_why() -> None:
    judgement = judge({"cache": "static", "cuda_graphs_min": 1}, SEEN)

    assert judgement.in_effect is None
    assert judgement.reason == "Could not be checked: This device has no CUDA graphs."


def test_one_failure_outweighs_what_could_not_be_checked() -> None:
    assert judge({"cache": "dynamic", "cuda_graphs_min": 1}, SEEN).in_effect is False


@pytest.mark.parametrize("condition", ["quantised_as", "activations_any", "activations_none", "kv_dtypes"])
def test_where_nothing_was_seen_of_what_is_asked_for_it_does_not_hold(condition: str) -> None:
    fact = CONDITIONS[condition].fact
    assert judge({condition: ["x"]}, {fact: []}).in_effect is False
    assert judge({condition: ["x"]}, {fact: None}).in_effect is None


def test_one_layer_held_otherwise_is_enough_to_fail() -> None:
    mixed = {"quantised_as": ["Int8Tensor (int8)", "Int4TilePackedTo4dTensor (int32)"]}
    assert judge({"quantised_as": ["Int8Tensor"]}, mixed).in_effect is False


def test_a_fact_of_the_wrong_kind_could_not_be_checked() -> None:
    for wrong in ("2", 2.0, True, [2]):
        judgement = judge({"compiled_frames_min": 1}, {"compiled_frames": wrong})
        assert judgement.in_effect is None
        assert "an invalid compiled_frames" in judgement.reason
    assert judge({"attention_op_any": ["flash"]}, {"attention_ops": [1]}).in_effect is None


def test_without_evidence_or_conditions_nothing_is_claimed() -> None:
    assert judge({"cache": "static"}, None).in_effect is None
    assert judge({}, SEEN).in_effect is None
    assert judge({"why_not": {}}, SEEN).in_effect is None


def test_every_condition_refuses_what_it_cannot_judge() -> None:
    for key, condition in CONDITIONS.items():
        good = {"names": ["x"], "name": "x", "count": 1}[condition.expects]
        assert problem_of(key, good) is None
        wrong: tuple[object, ...] = ({}, None, "", [], [1], -1, True, 1.5)
        assert all(problem_of(key, value) is not None for value in wrong)


FLASH = {"attention_op_any": ["_scaled_dot_product_flash_attention"]}
# as seen on a GPU with torch 2.1.2 and on a CPU
FIRST = ["aten::_scaled_dot_product_flash_attention", "pytorch_fmha::fmha_fwd_loop_kernel"]
ON_CPU = ["aten::_scaled_dot_product_flash_attention"]


def test_a_kernel_is_asked_for_on_the_device_that_has_kernels() -> None:
    first = {**FLASH, "cuda": {"attention_op_any": ["fmha_fwd_loop_kernel"]}}
    second = {**FLASH, "cuda": {"attention_op_any": ["flash_fwd"]}}

    assert judge(first, {"device": "cuda", "attention_ops": FIRST}).in_effect is True
    assert judge(second, {"device": "cuda", "attention_ops": FIRST}).in_effect is False
    assert judge(second, {"device": "cpu", "attention_ops": ON_CPU}).in_effect is True


def test_without_a_device_a_devices_conditions_are_not_taken_to_hold() -> None:
    judgement = judge({**FLASH, "cuda": {"cuda_graphs_min": 1}}, {"attention_ops": ON_CPU})

    assert judgement.in_effect is None
    assert judgement.reason == "Could not be checked: the run did not report its device."


def test_a_devices_conditions_are_explained_by_their_own_table() -> None:
    must_show = {"cpu": {"compiled_frames_min": 1, "why_not": {"compiled_frames_min": "it was eager"}}}

    assert judge(must_show, {"device": "cpu", "compiled_frames": 0}).reason == "0 frames were compiled: it was eager."
