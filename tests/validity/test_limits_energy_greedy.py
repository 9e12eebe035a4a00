from __future__ import annotations

from dataclasses import replace

import pytest

from methods.models.model import Model
from sessions.disk.records import Energy
from sessions.frames.bandwidth_limit import bytes_per_token, mbu
from sessions.frames.energy import counter_difference, power_integral
from sessions.frames.energy_edges import NO_ENERGY, EnergyEdges
from sessions.frames.greedy import GreedyPass, difference, greedy_pass
from tests.made_model import made_model
from tests.validity.made_frames import SECOND, evidence, telemetry, tenths

LLAMA = made_model(parameters=1_100_000_000, layers=22, kv_heads=4, head_dim=64, vocab_size=32_000, hidden_size=2048)


def test_bytes_per_token_are_the_weights_and_the_kv_cache() -> None:
    found = bytes_per_token(LLAMA, {"tie_word_embeddings": True}, "bfloat16", 2_200_000_000, 300.0)
    assert found.kv == 2 * 22 * 4 * 64 * 2 * 300  # 22,528 bytes a position
    assert found.total == 2_200_000_000 + 6_758_400


def test_an_embedding_of_its_own_is_looked_up_and_not_read() -> None:
    found = bytes_per_token(LLAMA, {"tie_word_embeddings": False}, "bfloat16", 2_200_000_000, 0.0)
    assert found.total == 2_200_000_000 - 32_000 * 2048 * 2


def test_weights_that_the_engine_does_not_tell_are_counted_by_type() -> None:
    assert bytes_per_token(LLAMA, None, "float32", None, 0.0).total == 4_400_000_000


def test_a_step_that_checks_drafts_reads_the_weights_once_for_several_tokens() -> None:
    shown = {"token_reads": {"weights_bytes": 2_200_000_000, "cache": []}, "drafted_tokens": 40}
    found = bytes_per_token(LLAMA, {}, "bfloat16", 2_200_000_000, 300.0, evidence=shown)
    assert found.total is None
    assert "several drafted tokens" in found.reason
    assert bytes_per_token(LLAMA, {}, "bfloat16", 2_200_000_000, 300.0, evidence={"drafted_tokens": 0}).total


@pytest.mark.parametrize(
    ("config", "dtype", "model", "reason"),
    [
        ({"num_local_experts": 8}, "bfloat16", LLAMA, "mixture of experts"),
        ({"kv_lora_rank": 512}, "bfloat16", LLAMA, "compressed"),
        ({"sliding_window": 100}, "bfloat16", LLAMA, "sliding window"),
        ({}, "int4", LLAMA, "int4"),
        ({}, "bfloat16", replace(LLAMA, kv_heads=None), "KV heads"),
    ],
)
def test_what_is_not_modelled_is_null_with_the_reason(
    config: dict[str, object], dtype: str, model: Model, reason: str
) -> None:
    found = bytes_per_token(model, config, dtype, 2_200_000_000, 300.0)
    assert found.total is None
    assert reason in found.reason


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"layer_types": ["conv", "full_attention"]}, "conv"),
        ({"mamba_d_state": 16}, "recurrences"),
        ({"layer_types": ["linear_attention"] * 2}, "linear_attention"),
        ({"vision_config": {}, "text_config": {"layer_types": ["full_attention"]}}, "vision_config"),
        ({"num_kv_shared_layers": 2}, "share their KV cache"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_a_config_that_is_not_plain_gives_no_figure_but_a_reason(config: dict[str, object], reason: str) -> None:
    found = bytes_per_token(LLAMA, config, "bfloat16", 2_200_000_000, 30.0)
    assert found.total is None
    assert reason in found.reason


def test_a_table_of_learned_positions_is_looked_up_and_not_read() -> None:
    model = replace(LLAMA, context_length=1024)
    found = bytes_per_token(model, {"model_type": "opt"}, "bfloat16", 2_200_000_000, 0.0)
    assert found.weights == 2_200_000_000 - 1026 * 2048 * 2


def test_what_the_engine_resolved_of_the_config_goes_before_what_its_file_says() -> None:
    known = {"kv_heads": 1, "tie_word_embeddings": False}
    found = bytes_per_token(LLAMA, {}, "bfloat16", 2_200_000_000, 300.0, known)
    assert found.kv == 2 * 22 * 1 * 64 * 2 * 300
    assert found.weights == 2_200_000_000 - 32_000 * 2048 * 2


def test_what_a_decoding_step_was_seen_to_read_goes_before_the_config() -> None:
    """Two layers that grow, one that holds no more than 100 positions, one with a state whatever the length."""
    seen = {"weights_bytes": 1_000, "cache": [[2, 8, 0, None], [1, 8, 0, 100], [1, 0, 50, None]]}
    found = bytes_per_token(
        LLAMA, {"vision_config": {}, "sliding_window": 100}, "bfloat16", 9_000, 300.0, {}, {"token_reads": seen}
    )
    assert (found.weights, found.kv, found.total) == (1_000, 2 * 8 * 300 + 8 * 100 + 50, 6_650)
    assert bytes_per_token(LLAMA, {"num_experts": 4}, "bfloat16", 9_000, 300.0, {}, {"token_reads": seen}).total is None
    for wrong in ({"weights_bytes": "x"}, {"weights_bytes": 1, "cache": 3}, {"weights_bytes": 1, "cache": [[1]]}):
        nothing = bytes_per_token(LLAMA, {}, "bfloat16", 9_000, 300.0, {}, {"token_reads": wrong})
        assert (nothing.total, bool(nothing.reason)) == (None, True)


def test_quantised_weights_give_a_figure_only_as_seen() -> None:
    """The file's weights times their declared type would be several times too many bytes."""
    unseen = bytes_per_token(LLAMA, {}, "bfloat16", None, 300.0, {}, {"quantised_layers": 154})
    assert (unseen.total, "quantised" in unseen.reason) == (None, True)
    stored = {"quantization_config": {"quant_method": "gptq"}}
    seen = {"quantised_layers": 154, "token_reads": {"weights_bytes": 600_000_000, "cache": [[22, 1024, 0, None]]}}
    found = bytes_per_token(LLAMA, stored, "bfloat16", None, 300.0, {}, seen)
    assert (found.weights, found.kv) == (600_000_000, 22 * 1024 * 300)


@pytest.mark.parametrize(("kept", "item"), [("bfloat16", 2), ("float8_e4m3fn", 1), ("uint8", 1)])
def test_a_kv_cache_counts_by_the_type_that_it_holds(kept: str, item: int) -> None:
    found = bytes_per_token(LLAMA, {}, "bfloat16", 2_200_000_000, 300.0, {}, {"kv_dtypes": [kept]})
    assert found.kv == 2 * 22 * 4 * 64 * item * 300


def test_a_kv_cache_of_a_type_of_unknown_size_gives_no_figure_but_a_reason() -> None:
    found = bytes_per_token(LLAMA, {}, "bfloat16", 2_200_000_000, 300.0, {}, {"kv_dtypes": ["int3"]})
    assert (found.total, "int3" in found.reason) == (None, True)


def test_mbu_is_the_share_of_the_bandwidth() -> None:
    assert mbu(2e9, 100.0, 4e11) == pytest.approx(0.5)
    assert mbu(2e9, None, 4e11) is None
    assert mbu(2e9, 100.0, None) is None


def test_the_power_integral_is_joules_of_all_gpus() -> None:
    seconds = tenths(0, 20)
    ramp = [100 + 10 * second for second in seconds]
    readings = telemetry(seconds, gpu0__power_w=ramp, gpu1__power_w=50)
    assert power_integral(readings, ["gpu0"], 5 * SECOND, 15 * SECOND) == pytest.approx(10 * 200)
    assert power_integral(readings, ["gpu0", "gpu1"], 5 * SECOND, 15 * SECOND) == pytest.approx(2500)


def test_power_with_a_hole_in_it_has_no_integral() -> None:
    readings = telemetry([*tenths(0, 8), *tenths(10, 20)], gpu0__power_w=100)
    assert power_integral(readings, ["gpu0"], 5 * SECOND, 15 * SECOND) is None
    assert power_integral(readings, ["gpu1"], 5 * SECOND, 15 * SECOND) is None
    assert power_integral(readings, [], 5 * SECOND, 15 * SECOND) is None


def test_the_counter_is_read_between_its_samples_for_five_seconds_or_more() -> None:
    seconds = list(range(21))
    readings = telemetry(seconds, gpu0__energy_j=[1000 + 300 * second for second in seconds])
    spans = [(int(2.5 * SECOND), int(9.5 * SECOND)), (2 * SECOND, 6 * SECOND), (15 * SECOND, 25 * SECOND)]
    assert counter_difference(readings, ["gpu0"], spans) == [pytest.approx(2100), None, None]
    assert counter_difference(readings, [], spans) == [None, None, None]


def test_a_split_is_where_the_greedy_passes_part() -> None:
    reference = GreedyPass((5, 6, 7, 8), (3.0, 2.0, 0.125, 1.0))
    found = difference(GreedyPass((5, 6, 9, 8)), reference, "bfloat16")
    assert (found.first, found.share, found.margin, found.near_tie) == (2, 0.75, 0.125, True)
    assert "a near tie in bfloat16" in found.sentence
    assert difference(GreedyPass((5, 6, 9, 8)), reference, "float32").near_tie is False


def test_equal_and_shorter_passes() -> None:
    reference = GreedyPass((5, 6, 7, 8))
    same = difference(reference, reference, "bfloat16")
    assert (same.first, same.share) == (None, 1.0)
    shorter = difference(GreedyPass((5, 6)), reference, "bfloat16")
    assert (shorter.first, shorter.share, shorter.margin) == (2, 0.5, None)


def test_a_pass_is_read_from_evidence_and_nonsense_is_none() -> None:
    assert greedy_pass(evidence(greedy={"ids": [1, 2], "margins": [0.5, None]})) == GreedyPass((1, 2), (0.5, None))
    assert greedy_pass(evidence(greedy={"ids": [1, 2]})) == GreedyPass((1, 2), (None, None))
    for text in (None, "", "{", "[]", evidence(greedy=[1]), evidence(greedy={"ids": ["a"]})):
        assert greedy_pass(text) is None
    told = greedy_pass(evidence(missing={"greedy": "this engine has none"}))
    assert told is not None
    assert (told.ids, told.reason) == ((), "this engine has none")


def edge(name: str, seconds: float, joules: float | None, reason: str = "") -> Energy:
    return Energy(t=round(seconds * 1e9), method="m", block=0, edge=name, energy_j=joules, reason=reason)


@pytest.mark.parametrize(("seconds", "joules"), [(0.05, None), (0.9, None), (1.0, 300.0), (30.0, 300.0)])
def test_a_timed_part_shorter_than_the_counter_can_show_has_no_energy(seconds: float, joules: float | None) -> None:
    """Within 0.05 s the counter of an H200 did not move: 0 J a token was said."""
    edges = EnergyEdges()
    for each in (
        edge("start", 0, 1000),
        edge("timed_start", 20, 3000),
        edge("timed_end", 20 + seconds, 3300),
        edge("end", 60, 9000),
    ):
        edges.read(each)
    assert (edges.block_j, edges.timed_j) == (8000, joules)
    said = f"the timed part took {seconds:.2g} s; the energy counter, which moves every 0.1 s, needs 1 s or more"
    assert edges.missing() == ({"timed_energy_j": said} if joules is None else {})


def test_energy_that_was_not_read_at_an_edge_is_missing_for_what_was_said_there() -> None:
    edges = EnergyEdges()
    for each in (
        edge("start", 0, None, "asleep"),
        edge("timed_start", 1, 5),
        edge("timed_end", 9, None, "fell off the bus"),
    ):
        edges.read(each)
    assert edges.missing() == {"energy_j": "asleep", "timed_energy_j": "fell off the bus"}
    assert EnergyEdges().missing() == dict.fromkeys(("energy_j", "timed_energy_j"), NO_ENERGY)
