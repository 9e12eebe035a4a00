"""The engine `resident` on tiny models on the CPU, its kernels run by Triton's interpreter, beside transformers.

One process runs everything (resident_in_process.py): most of the time is importing torch. What needs a GPU (graphs,
dependent launches, speed) is in benchmarks/resident_gpu.py.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from methods.base import file_lock
from methods.base.home import private_folder
from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import load_catalogue
from methods.environments import environments
from tests.conftest import told
from tests.methods.runner_process import RUNNER

pytestmark = pytest.mark.engines
IN_PROCESS = Path(__file__).with_name("resident_in_process.py")
COMPILED = Path(__file__).with_name("resident_compiled.py")
WHOLE = Path(__file__).with_name("resident_whole_in_process.py")
# Triton comes with torch's builds for CUDA alone; its interpreter needs no GPU.
ITS_ENVIRONMENT = """
[triton-interpreter]
purpose = "torch for the CPU, with Triton's interpreter."
python = ">=3.10,<3.15"
requirements = ["torch==2.13.0", "transformers>=5.17,<6", "safetensors>=0.6,<1", "triton>=3.6,<3.8",
    "nvidia-cuda-nvrtc==13.0.88"]
backend = "cpu"
imports = ["torch", "transformers", "triton"]
variables = { TRITON_INTERPRET = "1" }
"""
IN_ONE_KERNEL = [
    "one KV head for two, a row of three pieces", "tied, four programs for its head", "Qwen2's biases", "GPT-2",
    "int8, a row of two pieces", "int8 with biases",
    "GPT-2 in float16, with more than it holds",
]  # fmt: skip
MODELS = ["one KV head, tied, 72 wide", "untied, scaled rope", "Qwen2's biases", "Qwen3's norms", "GPT-2"]
ROUNDING = 2e-4  # of a log probability, between two orders of float32 sums
CHI_SQUARE = 3.1  # standard deviations of the statistic: one of a thousand is farther off, and the seeds are fixed


@pytest.fixture(scope="module")
def interpreter(assets: Path, tmp_path_factory: pytest.TempPathFactory) -> Interpreter:
    config = tmp_path_factory.mktemp("config")
    (private_folder(config / "environments") / "triton-interpreter.toml").write_text(ITS_ENVIRONMENT)
    with file_lock.held(assets / ".lock", "tests", told):
        try:
            return environments.create("triton-interpreter", assets, config, report=told)
        except environments.CreationError as error:
            pytest.skip(f"the environment of Triton's interpreter cannot be created here: {error}")


def said_by(interpreter: Interpreter, script: Path, *arguments: str, **variables: str) -> dict[str, Any]:
    """The JSON that a script prints last, run in the environment."""
    answer = subprocess.run(
        [str(interpreter.python), "-I", str(script), str(RUNNER), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **interpreter.variables, **variables},
    )
    assert answer.returncode == 0, answer.stderr
    said: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def found(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return said_by(interpreter, IN_PROCESS, str(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def compiled(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    cache = str(tmp_path_factory.mktemp("triton"))
    return said_by(interpreter, COMPILED, TRITON_INTERPRET="0", TRITON_CACHE_DIR=cache)


@pytest.fixture(scope="module")
def whole(interpreter: Interpreter, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return said_by(interpreter, WHOLE, str(tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def one(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["one"])


@pytest.mark.parametrize("model", MODELS)
def test_a_step_gives_transformers_logits_and_its_greedy_ids(found: dict[str, Any], model: str) -> None:
    said = found["models"][model]

    assert said["differs"] < ROUNDING
    assert said["differs_in_prefill"] < ROUNDING
    assert said["ids"] == said["theirs"]
    assert said["finish"] == "length"
    assert len(set(said["ids"])) > 1


@pytest.mark.parametrize("model", MODELS)
def test_a_greedy_pass_tells_by_how_much_each_id_was_ahead(found: dict[str, Any], model: str) -> None:
    said = found["models"][model]

    assert said["greedy"]["ids"] == said["ids"]
    assert said["greedy"]["margins"] == pytest.approx(said["best_two"], abs=1e-3)


def test_tiles_and_parts_that_end_within_a_row_change_nothing(one: dict[str, Any]) -> None:
    assert one["divided"] < ROUNDING
    assert one["divided_ids"] == one["ids"]


def test_programs_that_keep_their_vector_through_many_rows_change_nothing(one: dict[str, Any]) -> None:
    assert one["turning"] < ROUNDING
    assert one["turning_ids"] == one["ids"]


def test_one_response_leaves_nothing_to_the_next(one: dict[str, Any]) -> None:
    assert one["again"] == [one["ids"]] * 2


def test_a_response_ends_at_a_stop_token_also_at_its_first(one: dict[str, Any]) -> None:
    assert one["at_first"] == [one["ids"][:1], "eos"]
    assert one["after_a_stop"] == one["at_first"]


def test_a_prompt_may_be_one_token(one: dict[str, Any]) -> None:
    assert one["one_id"] == one["one_id_theirs"]


@pytest.mark.parametrize("model", ["untied, scaled rope", "GPT-2"])
def test_a_prompt_that_is_filled_up_has_the_keys_and_values_of_one_that_is_not(
    found: dict[str, Any], model: str
) -> None:
    said = found["prompts"][model]

    assert said["off"] < ROUNDING
    assert said["replays"] == 5, "one of 65 ids has no graph"
    most = 128 if model == "GPT-2" else 1024
    lengths = [32, 64, 128] if model == "GPT-2" else [32, 64, 128, 160]
    assert said["captured"] == {"lengths": lengths, "reason": f"longer than {most} ids"}
    assert said["shared"] == [False] + [True] * (len(lengths) - 1), "graphs work in one memory"


def test_prompts_that_no_graph_can_read_are_read_kernel_by_kernel(found: dict[str, Any]) -> None:
    said = found["prompts"]

    assert said["waits"] == [{"lengths": [], "reason": "called a synchronizing CUDA operation"}, 0, 2]
    other = "a graph of transformers' kernels gives other keys and values than they do"
    assert said["swaps"] == [{"lengths": [], "reason": other}, 0, 2]
    assert said["many"] == {"lengths": list(range(32, 321, 32)), "reason": "lengths of more than 2048 ids together"}


def test_the_repetition_penalty_is_transformers_and_no_part_of_the_greedy_pass(one: dict[str, Any]) -> None:
    assert one["penalised"] == one["penalised_theirs"]
    assert one["penalised"] != one["ids"]
    assert one["greedy_of_penalised"] == one["ids"]


@pytest.mark.parametrize(("how", "most"), [("int8", 0.5), ("fp8", 2.0)])
def test_rounded_weights_read_half_the_bytes_and_both_paths_read_the_same(
    one: dict[str, Any], how: str, most: float
) -> None:
    said = one["weights"][how]

    assert said["paths_differ"] < ROUNDING
    assert ROUNDING < said["off"] < most
    assert said["bytes"] < 0.35 * said["plain_bytes"]  # of float32: a quarter, and scales, norms and a row


def test_a_row_is_rounded_to_nearest(found: dict[str, Any]) -> None:
    rounding = found["rounding"]

    assert rounding["int8_steps"] <= 0.5 + 1e-4
    assert rounding["fp8_relative"] <= 2**-4 + 1e-6  # three bits of fraction: half of the last one
    assert rounding["a_row_of_zeros"] == 0
    assert rounding["unpacked"] == [True, True]


def test_bfloat16_is_as_near_to_float32_as_transformers_own(one: dict[str, Any]) -> None:
    assert 0 < one["bfloat16_off"] <= 1.5 * one["bfloat16_prefill_off"]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("a config that multiplies", "a model whose config has embedding_multiplier = 12.0."),
        ("a config that caps", "a model whose config has attn_logit_softcapping = 50.0."),
        ("experts", "this one (mixtral) also has model.layers.0.mlp.gate.weight."),
        ("no attention", "which this one (mamba) is not."),
        ("a window that is too short", "no sliding window, and the session's 12 tokens are more than the model's 8."),
        ("too few positions", "The model has 10 positions, and the session's longest request takes 11."),
        ("another norm", "resident does not know the norm GemmaRMSNorm."),
        ("the same parts, put together otherwise", "resident does not compute what transformers does with this model"),
    ],
)
def test_a_model_that_it_does_not_run_is_refused_with_the_reason(found: dict[str, Any], model: str, says: str) -> None:
    assert says in found["unsupported"][model]


def kept(weights: list[float], top_k: int, top_p: float) -> list[float]:
    """The probabilities of these weights under top-k, then top-p, as transformers has them; ties are kept together."""
    if top_k:
        least = sorted(weights)[-top_k]
        weights = [each if each >= least else 0.0 for each in weights]
    total = sum(weights)
    ahead = {each: sum(other for other in weights if other > each) for each in weights}
    weights = [each if ahead[each] < top_p * total else 0.0 for each in weights]
    return [each / sum(weights) for each in weights]


@pytest.mark.parametrize("case", ["all", "top-k", "top-p", "top-k and top-p", "the best alone"])
def test_what_is_drawn_is_as_likely_as_it_should_be(found: dict[str, Any], case: str) -> None:
    ids, how = found["sampling"]["drawn"][case]
    heat = how.get("temperature", 1.0)
    weights = [math.exp(each / heat) for each in found["sampling"]["logits"]]
    wanted = kept(weights, how.get("top_k", 0), how.get("top_p", 1.0))
    counts = Counter(ids)

    assert {token for token in counts if wanted[token] == 0} == set()
    likely = [token for token, share in enumerate(wanted) if share * len(ids) >= 5]
    rare = 1.0 - sum(wanted[token] for token in likely)
    bins = [(counts[token], wanted[token] * len(ids)) for token in likely]
    bins += [(len(ids) - sum(count for count, _ in bins), rare * len(ids))] if rare * len(ids) >= 5 else []
    statistic = sum((seen - expected) ** 2 / expected for seen, expected in bins)
    freedom = len(bins) - 1
    assert statistic <= freedom + CHI_SQUARE * np.sqrt(2 * freedom) + 1e-9


@pytest.mark.parametrize("case", ["top-k", "top-k and top-p", "more than are asked for"])
def test_a_short_list_draws_what_is_drawn_from_all(found: dict[str, Any], case: str) -> None:
    from_all, from_a_list = found["sampling"]["both"][case]

    assert from_a_list == from_all
    assert len(set(from_all)) > 2


def test_a_seed_draws_the_same_again_and_another_something_else(found: dict[str, Any]) -> None:
    first, second, again = found["responses"]

    assert first == again
    assert first != second
    assert len(first) == 4


def test_its_memory_is_the_cache_of_the_longest_request(one: dict[str, Any]) -> None:
    assert one["memory"]["kv_reserved_bytes"] == 2 * 1 * 1 * 12 * 12 * 4  # keys and values, layers, heads, tokens, head


def test_without_a_gpu_the_evidence_is_what_could_not_be_checked(one: dict[str, Any], tmp_path: Path) -> None:
    judgement = evidence.judge(load_catalogue(tmp_path).methods["resident"].must_show, one["evidence"])

    assert judgement.in_effect is None
    assert "The interpreter runs no kernels" in judgement.reason
    assert one["evidence"]["steps_timed"] == 4


@pytest.mark.parametrize("method", ["resident-int8", "resident-fp8"])
def test_weights_that_were_left_as_they_are_are_not_in_effect(one: dict[str, Any], tmp_path: Path, method: str) -> None:
    must_show = load_catalogue(tmp_path).methods[method].must_show
    at_work = evidence.judge(must_show, one["weights"][method.removeprefix("resident-")]["evidence"])
    without = evidence.judge(must_show, one["evidence"])

    assert at_work.in_effect is None  # for want of a graph, and of nothing else
    assert without.in_effect is False
    assert "Quantised layers hold their weights as nothing" in without.reason


@pytest.mark.parametrize("how", ["int8", "fp8"])
def test_a_config_is_read_as_it_was_before_weights_were_rounded_apart(one: dict[str, Any], how: str) -> None:
    assert one["config"]["tie_word_embeddings"] is True
    assert one["weights"][how]["config"] == one["config"]


def test_steps_without_a_graph_are_not_in_effect(one: dict[str, Any], tmp_path: Path) -> None:
    on_a_gpu = {
        **one["evidence"],
        "device": "cuda",
        "attention_ops": ["resident_attention"],
        "matmul_ops": ["resident_qkv"],
    }
    must_show = load_catalogue(tmp_path).methods["resident"].must_show

    assert evidence.judge(must_show, {**on_a_gpu, "cuda_graphs": 3}).in_effect is True
    judgement = evidence.judge(must_show, {**on_a_gpu, "cuda_graphs": 0})
    assert judgement.in_effect is False
    assert "the host then launches kernel by kernel" in judgement.reason


KERNELS = {
    "resident_qkv",
    "resident_attention",
    "resident_add",
    "resident_mlp",
    "resident_head",
    "resident_pick",
}


@pytest.mark.parametrize(("gpu", "dependent"), [("plain 80", False), ("plain 90", True)])
def test_all_kernels_of_a_step_compile_for_gpus_with_and_without_dependent_launch(
    compiled: dict[str, Any], gpu: str, dependent: bool
) -> None:
    assert set(compiled[gpu]) == KERNELS
    assert {name for name, said in compiled[gpu].items() if said["waits"] is not dependent} == set()
    assert {name for name, said in compiled[gpu].items() if said["stack"]} == set()


@pytest.mark.parametrize("how", ["int8", "fp8"])
def test_what_unpacks_rows_for_a_prompt_compiles(compiled: dict[str, Any], how: str) -> None:
    assert compiled[f"{how} unpacked 90"]["resident_unpack"]["stack"] == 0


def test_kernels_that_choose_among_many_compile_too(compiled: dict[str, Any]) -> None:
    assert set(compiled["many 90"]) == {"resident_narrow", "resident_draw", "resident_advance"}
    assert not any(said["stack"] for said in compiled["many 90"].values())


def test_programs_that_go_through_many_rows_have_tiles_on_their_way_all_the_time(compiled: dict[str, Any]) -> None:
    (said,) = compiled["turning 90"].values()

    assert said["copies"] == 4 * 8  # three tiles before the loop and one in it, 16 KB each by 128 threads
    assert said["fetches"], "into the L2 cache before it waits"
    assert not said["stack"]


@pytest.mark.parametrize(
    ("case", "kernel", "loads"),
    [
        ("plain 90", "resident_qkv", 8),
        ("plain 90", "resident_add", 8),
        ("plain 90", "resident_mlp", 8),
        ("plain 90", "resident_head", 8),
        ("int8 90", "resident_qkv", 8),
        ("fp8 90", "resident_qkv", 8),
    ],
)
def test_weights_are_loaded_in_words_of_16_bytes_before_a_kernel_waits(
    compiled: dict[str, Any], case: str, kernel: str, loads: int
) -> None:
    before = [each for each in compiled[case][kernel]["before"] if "evict_first" in each]  # a norm's gains are not

    assert len(before) == loads  # 16 KB by 128 threads
    assert {each.rpartition("cache_hint")[2] for each in before} == {".v4.b32"}


@pytest.mark.parametrize("model", IN_ONE_KERNEL)
def test_one_kernel_of_all_layers_is_as_near_to_float32_as_a_kernel_for_each_product(
    whole: dict[str, Any], model: str
) -> None:
    said = whole["models"][model]

    by_kernels, in_one, *at_random = said["off"]
    assert in_one <= 1.5 * by_kernels
    assert set(at_random) == {in_one}, "in whatever order its threads come to run"
    assert 0 < said["apart"] < by_kernels
    assert said["in_one"] == said["ids"]
    assert len(set(said["ids"])) == 3


def test_one_kernel_of_all_layers_is_in_effect(whole: dict[str, Any], tmp_path: Path) -> None:
    judgement = evidence.judge(load_catalogue(tmp_path).methods["resident"].must_show, whole["evidence"])

    assert judgement.in_effect is True, judgement.reason
    assert whole["evidence"]["kernel_calls"] == {"resident_advance": 3, "resident_layers": 3}
    assert (whole["evidence"]["prompts_replayed"], whole["evidence"]["cuda_graphs"]) == (1, 3), "those of steps"


def test_the_fastest_form_of_the_one_kernel_is_timed_again_kept_and_found(whole: dict[str, Any]) -> None:
    said = whole["choosing"]

    fastest = {
        "splits": 2, "warps": 2, "fetchers": 2, "waiting": 12, "working": 64, "together": 1, "awaited": 1,
    }  # fmt: skip
    assert said["found"] == said["again"] == {**fastest, "seconds": 1.01}
    assert said["in_use"] == fastest
    assert (said["timed"], said["timed_again"]) == (4 + 3 + 2 + 2 + 36 + 3 + 1, 1)
    assert said["tuned"]["whole"]["seconds"] == 1.01
    assert said["timed_by_kernels"] == 1, "of two loads"
    assert (said["refused"], said["left"]) == ({"unused": "It cannot."}, None)


def test_where_one_kernel_computes_something_else_a_kernel_for_each_product_is_used(whole: dict[str, Any]) -> None:
    said = whole["fallen_back"]

    assert said["by_kernels"]
    assert said["timed"].pop("whole")["unused"].startswith("resident does not compute what transformers does")
    assert said["timed"] == {"other": 1}


def test_one_kernel_is_for_cards_from_hopper_on(whole: dict[str, Any]) -> None:
    assert {said["reason"] for said in whole["models"].values()} == {"a card before Hopper"}
    assert whole["options"].startswith("The option whole is decided by timing, which tune = false turns off")


def test_a_model_without_the_one_kernel_says_why(whole: dict[str, Any]) -> None:
    assert whole["reasons"] == {
        "none": None,
        "float32": "numbers of another type than float16 and bfloat16",
        "float8": "float8 weights",
        "Qwen3": "norms of heads",
        "heads": "heads of 24 numbers",
        "a width": "a width that 8 does not divide",
    }


def test_the_one_kernel_compiles_once_for_a_card_that_is_not_there(whole: dict[str, Any]) -> None:
    said = whole["compiling"]

    assert said["has"] == dict.fromkeys(("Llama", "GPT-2", "int8, bfloat16", "int8, float16"), True)
    assert said["spills"] == {name: [0] * len(said["spills"][name]) for name in ("narrow", "plain", "int8")}
    assert all(len(each) > 1 for each in said["spills"].values()), "the kernel and its functions"
    assert said["again"]
    assert said["wrong"].startswith("NVRTC 13.0 could not compile a kernel: kasoku.cu(1): error")
    assert said["no_driver"] == "The library of the CUDA driver was not found (libcuda.so.1)."
