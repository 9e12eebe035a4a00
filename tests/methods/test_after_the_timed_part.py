"""What cannot be read once the timed part is over is null with its reason, and the block stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue.evidence import judge
from tests.methods.runner_process import Outcome, measure_job, run, run_in

READ_AFTERWARDS = ("timed_ends", "evidence", "memory", "greedy", "close")


def spoilt(folder: Path, calls: tuple[str, ...], body: str) -> Outcome:
    """A run of an engine in which `body` stands in for what each of these calls does."""
    lines = ["from kasoku_engine import Engine", "class Spoilt(Engine):"]
    lines += ["    def load(self, job):", "        return {}"]
    lines += ["    def generate(self, request, emit):", "        emit([1, 2, 3, 4])"]
    for call in calls:
        lines += [f"    def {call}(self, *given):", f"        {body}"]
    engine = folder / "engine.py"
    engine.write_text("\n".join([*lines, "ENGINE = Spoilt", ""]))
    return run(Path(sys.executable), measure_job(str(engine), greedy=True), folder)


@pytest.mark.parametrize("body", ["raise OSError('it is gone')", "raise SystemExit('it is gone')", "1 / 0"])
@pytest.mark.parametrize("call", READ_AFTERWARDS)
def test_the_block_stands_whatever_call_fails(tmp_path: Path, call: str, body: str) -> None:
    outcome = spoilt(tmp_path, (call,), body)
    assert outcome.status == 0, outcome.log
    assert [end["output_tokens"] for end in outcome.of("request_end")] == [4, 4, 4]
    assert outcome.one("done")
    assert isinstance(outcome.one("memory")["peak_rss_bytes"], int)


def test_all_of_it_may_fail_and_each_has_its_reason(tmp_path: Path) -> None:
    outcome = spoilt(tmp_path, READ_AFTERWARDS, "raise OSError('it is gone')")
    assert outcome.status == 0, outcome.log
    missing = outcome.one("evidence")["evidence"]["missing"]  # type: ignore[index]
    assert missing == dict.fromkeys(("peaks", "evidence", "memory", "greedy"), "OSError: it is gone")
    memory: Any = outcome.one("memory")
    assert memory["kv_reserved_bytes"] is None
    assert memory["missing"]["kv_reserved_bytes"] == "OSError: it is gone"


@pytest.mark.parametrize("body", ["return {'x': float('nan')}", "return {(1, 2): 3}", "return 7"])
def test_what_cannot_be_sent_is_missing_too(tmp_path: Path, body: str) -> None:
    outcome = spoilt(tmp_path, ("evidence", "memory"), body)
    assert outcome.status == 0, outcome.log
    evidence: Any = outcome.one("evidence")["evidence"]
    assert sorted(evidence["missing"]) == ["evidence", "greedy", "memory"]
    assert outcome.one("memory")["kv_reserved_bytes"] is None


def test_a_method_whose_evidence_failed_could_not_be_checked_for_that_reason() -> None:
    evidence = {"device": "cpu", "missing": {"evidence": "OSError: it is gone"}}
    judged = judge({"cache": "static", "attention_implementation": "sdpa"}, evidence)
    assert (judged.in_effect, judged.reason) == (None, "Could not be checked: OSError: it is gone.")


HYBRIDS = """
import sys
import transformers as t
small = dict(vocab_size=272, hidden_size=64, intermediate_size=128, num_attention_heads=4, num_key_value_heads=2,
             num_hidden_layers=4, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=2)
t.set_seed(0)
conv = t.Lfm2Config(**small, layer_types=["conv", "full_attention"] * 2)
t.Lfm2ForCausalLM(conv).save_pretrained(sys.argv[1] + "/conv")
t.Gemma4ForCausalLM(t.Gemma4TextConfig(
    **small, head_dim=16, global_head_dim=16, sliding_window=64, num_kv_shared_layers=2, vocab_size_per_layer_input=272,
    hidden_size_per_layer_input=8, layer_types=["sliding_attention", "full_attention"] * 2,
)).save_pretrained(sys.argv[1] + "/shared")
"""


@pytest.mark.model
@pytest.mark.engines
def test_a_static_cache_is_counted_where_layers_have_no_keys(torch_interpreter: Interpreter, tmp_path: Path) -> None:
    """Two layers of convolutions beside two of attention; four layers of which two read the cache of the others."""
    import subprocess

    made = [str(torch_interpreter.python), "-I", "-c", HYBRIDS, str(tmp_path)]
    ran = subprocess.run(made, capture_output=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr.decode()
    prompt, item = 8, 2
    length = prompt + 4 - 1
    keys_and_values = 2 * 2 * 16 * length * item
    expected = {"conv": 2 * keys_and_values + 2 * 64 * 3 * item, "shared": 2 * keys_and_values}
    for name, size in expected.items():
        job = measure_job(
            "transformers",
            model_folder=str(tmp_path / name),
            prompts=[list(range(3, 3 + prompt))],
            options={"cache": "static"},
        )
        outcome = run_in(torch_interpreter, job, tmp_path)
        assert outcome.status == 0, outcome.log
        memory: Any = outcome.one("memory")
        assert memory["kv_reserved_bytes"] == size, (name, memory)


@pytest.mark.parametrize(
    ("earlier", "profiled"),
    [
        (None, True),
        ({"cache": "static"}, True),
        ({"cache": "dynamic", "frames": [1]}, True),
        ({"cache": "dynamic"}, False),
    ],
)
def test_a_profile_is_left_out_where_the_block_shows_what_an_earlier_one_did(
    tmp_path: Path, earlier: dict[str, object] | None, profiled: bool
) -> None:
    engine = tmp_path / "engine.py"
    engine.write_text(
        "from kasoku_engine import Engine\n"
        "class Profiled(Engine):\n"
        "    def load(self, job):\n"
        "        return {}\n"
        "    def generate(self, request, emit):\n"
        "        emit([1, 2, 3, 4])\n"
        "    def evidence(self):\n"
        "        return {'cache': 'dynamic', 'missing': {'a': 'no a'}}\n"
        "    def profile(self):\n"
        "        return {'ops': ['flash'], 'missing': {'b': 'no b'}}\n"
        "ENGINE = Profiled\n"
    )
    outcome = run(Path(sys.executable), measure_job(str(engine), profiled=earlier), tmp_path)

    said = outcome.one("evidence")
    both = {"ops": ["flash"], "missing": {"a": "no a", "b": "no b"}} if profiled else {"missing": {"a": "no a"}}
    assert said["evidence"] == {"device": "cpu", "cache": "dynamic", **both}
    assert said["profiled"] == (["ops"] if profiled else [])


def test_a_fact_of_a_profile_that_failed_is_missing_for_that_reason() -> None:
    evidence = {"device": "cpu", "cache": None, "missing": {"profile": "OSError: it is gone"}}
    assert judge({"attention_op_any": ["flash"]}, evidence).reason == "Could not be checked: OSError: it is gone."
    assert judge({"cache": "static"}, evidence).reason == "Could not be checked: the engine did not report cache."
