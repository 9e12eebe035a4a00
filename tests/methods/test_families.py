"""A tiny random model of each kind, made here: it generates, is loaded again alike, and is counted right."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.families import PARTS, WORKER, row, run_all
from methods.base.interpreter import Interpreter
from sessions.frames.config_differences import differences
from tests.conftest import MakeEnvironment

KINDS = {
    "llama": "plain",
    "gpt_bigcode": "multi-query",
    "gemma2": "sliding window",
    "mixtral": "experts",
    "qwen3_5_text": "linear attention beside attention",
    "mamba": "state space",
    "gpt_neox": "partial rotary embedding",
    "gemma3n_text": "layers that share a cache",
    "gpt2": "learned positions",
}
WITHOUT_A_FIGURE = {"mixtral": "mixture of experts", "gemma3n_text": "share their KV cache"}


def make(interpreter: Interpreter, folder: Path, *families: str) -> None:
    command = [str(interpreter.python), "-I", str(WORKER), "make", str(folder), *families]
    made = subprocess.run(command, capture_output=True, check=True, text=True, timeout=600)
    assert json.loads(made.stdout) == {}


@pytest.mark.model
@pytest.mark.engines
def test_a_family_of_each_kind_is_measured_and_counted_right(torch_interpreter: Interpreter, tmp_path: Path) -> None:
    make(torch_interpreter, tmp_path, *KINDS)
    entries = [{"family": name, "folder": str(tmp_path / name), "parts": PARTS} for name in KINDS]
    rows = {
        found["family"]: row(found, None, tmp_path / found["family"])
        for found in run_all(torch_interpreter.python, entries)
    }
    assert sorted(rows) == sorted(KINDS)
    for name, (generates, again, static, seen, from_config, _) in rows.items():
        assert (generates, again) == ("yes", "same ids"), name
        assert static.endswith(" bytes"), (name, static)
        if name in WITHOUT_A_FIGURE:
            assert WITHOUT_A_FIGURE[name] in seen, (name, seen)
        else:
            assert seen == "right", (name, seen)
        assert from_config == "right" or from_config.startswith("none: "), (name, from_config)


def test_a_config_that_old_transformers_misreads_is_seen_in_the_model_that_it_made(
    torch_interpreter: Interpreter, made_environment: MakeEnvironment, tmp_path: Path
) -> None:
    """Version 4 keeps `rope_parameters` as an attribute, and builds GPT-NeoX with its own defaults all the same."""
    make(torch_interpreter, tmp_path, "gpt_neox")
    entry = {"family": "gpt_neox", "folder": str(tmp_path / "gpt_neox"), "parts": ()}
    (new,), (old,) = (
        list(run_all(each.python, [entry])) for each in (torch_interpreter, made_environment("article-2024"))
    )
    said = differences(old["loaded"]["resolved"]["config"], new["loaded"]["resolved"]["config"], "baseline")
    assert said == ["rotary_frequencies is 4 dimensions at base 1e+04, but 8 dimensions at base 5e+04 for baseline"]
