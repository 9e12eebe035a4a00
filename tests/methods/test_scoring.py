"""An engine's scores of given ids, in prefill and in decoding, beside the reference's and a bare script's."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from methods.base.interpreter import Interpreter
from methods.models.model import Model
from methods.text.tokeniser import Tokeniser
from sessions.planning.fidelity_rule import PASSAGE
from tests.methods.runner_process import measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.engines]
FAULTY = Path(__file__).with_name("faulty_engine.py")
BASELINE = {"attn_implementation": "eager", "cache": "dynamic"}
SDPA = {"attn_implementation": "sdpa"}
COMPILED = {"attn_implementation": "sdpa", "cache": "static", "compile": "decode"}
PROMPT, SCORED, WINDOWS = 56, 16, 2  # of each stratum: the last ids are beyond position 64
PATHS = ("prefill", "decode")

Scored = dict[str, list[dict[str, Any]]]  # by path, a window's message after another's


@pytest.fixture(scope="module")
def windows(default_model: Model) -> list[list[int]]:
    ids = Tokeniser(default_model.folder).encode(PASSAGE.read_text(encoding="utf-8"))
    return [ids[place : place + PROMPT + SCORED] for place in range(0, 1000 * 2 * WINDOWS, 1000)]


def common(model: Model) -> dict[str, object]:
    return {
        "model_folder": str(model.folder),
        "prompts": [[1] * PROMPT],
        "sampling": {"max_new_tokens": SCORED, "stop_token_ids": [], "temperature": 0.0},
    }


def reference_in(
    folder: Path, model: Model, windows: list[list[int]], interpreter: Interpreter, most_bytes: int = 1 << 30
) -> dict[str, Any]:
    """The job `reference` at work: what it leaves in the folder."""
    folder.mkdir()
    job = measure_job(
        "transformers",
        options=BASELINE,
        job="reference",
        texts=[{"ids": ids, "scored": SCORED} for ids in windows[:WINDOWS]],
        contexts=[ids[:PROMPT] for ids in windows[WINDOWS:]],
        scored=SCORED,
        folder=str(folder),
        most_bytes=most_bytes,
        **common(model),
    )
    outcome = run_in(interpreter, job, folder)
    assert outcome.status == 0, outcome.log
    said: dict[str, Any] = json.loads((folder / "reference.json").read_bytes())
    return said


@pytest.fixture(scope="module")
def reference(
    default_model: Model,
    windows: list[list[int]],
    torch_interpreter: Interpreter,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("reference") / "kept"
    return folder, reference_in(folder, default_model, windows, torch_interpreter)


def scored_by(
    engine: str,
    options: Mapping[str, object],
    model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    interpreter: Interpreter,
    folder: Path,
) -> Scored:
    """What a block says of the reference's windows."""
    kept, said = reference
    whole = [*windows[:WINDOWS], *([*ids[:PROMPT], *own] for ids, own in
             zip(windows[WINDOWS:], said["continuations"], strict=True))]  # fmt: skip
    fidelity = {"windows": [{"ids": ids, "scored": SCORED} for ids in whole], "folder": str(kept), "scored": None}
    job = measure_job(engine, options=dict(options), fidelity=fidelity, **common(model))
    folder.mkdir()
    outcome = run_in(interpreter, job, folder)
    assert outcome.status == 0, outcome.log
    assert not outcome.of("unscored"), outcome.log
    of = [dict(each) for each in outcome.of("scores")]
    return {path: [each for each in of if each["path"] == path] for path in PATHS}


def kl_of(scored: Scored, path: str) -> float:
    return math.fsum(each["kl"] for each in scored[path])


@pytest.fixture(scope="module")
def floor(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    torch_interpreter: Interpreter,
    tmp_path_factory: pytest.TempPathFactory,
) -> Scored:
    """Attention by another kernel."""
    place = tmp_path_factory.mktemp("floor") / "sdpa"
    return scored_by("transformers", SDPA, default_model, windows, reference, torch_interpreter, place)


def test_the_reference_against_itself_in_another_process_is_the_same_to_the_last_bit(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    torch_interpreter: Interpreter,
    tmp_path: Path,
) -> None:
    own = scored_by("transformers", BASELINE, default_model, windows, reference, torch_interpreter, tmp_path / "own")
    for path in PATHS:
        assert [each["nll"] for each in own[path]] == reference[1][path]["nll"]
        assert [each["top1"] for each in own[path]] == reference[1][path]["top1"]
        assert [each["kl"] for each in own[path]] == [0.0] * 2 * WINDOWS
        greedy = [ids for each in own[path][WINDOWS:] for ids in each["top1"]]
        continued = [ids for each in reference[1]["continuations"] for ids in each]
        assert path == "prefill" or greedy == continued, "its own choice is what it was continued by"


def test_with_another_kernel_the_scores_differ_by_rounding(
    floor: Scored, reference: tuple[Path, dict[str, Any]]
) -> None:
    for path in PATHS:
        apart = [
            abs(one - other)
            for each, nll in zip(floor[path], reference[1][path]["nll"], strict=True)
            for one, other in zip(each["nll"], nll, strict=True)
        ]
        assert 0 < max(apart) < 0.5
        assert 0 < kl_of(floor, path) < 0.5


@pytest.mark.parametrize("fault", ["head", "rope", "dropped"])
def test_a_fault_in_the_model_is_far_above_the_floor_on_both_paths(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    floor: Scored,
    torch_interpreter: Interpreter,
    tmp_path: Path,
    fault: str,
) -> None:
    options = {**BASELINE, "fault": fault, "seed": 1}
    found = scored_by(str(FAULTY), options, default_model, windows, reference, torch_interpreter, tmp_path / fault)
    for path in PATHS:
        assert kl_of(found, path) > 3 * kl_of(floor, path)


def test_a_fault_that_only_decoding_has_is_found_by_that_path_alone(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    torch_interpreter: Interpreter,
    tmp_path: Path,
) -> None:
    options = {**BASELINE, "fault": "late"}
    found = scored_by(str(FAULTY), options, default_model, windows, reference, torch_interpreter, tmp_path / "late")
    assert kl_of(found, "prefill") == 0.0
    assert kl_of(found, "decode") > 0.05
    for each, nll in zip(found["decode"], reference[1]["decode"]["nll"], strict=True):
        sound = 64 - PROMPT  # the first ids come from positions before that
        assert each["nll"][:sound] == nll[:sound]
        assert each["nll"][sound + 1 :] != nll[sound + 1 :]


def test_the_compiled_step_with_its_static_cache_is_scored_as_it_was_timed(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    floor: Scored,
    torch_interpreter: Interpreter,
    tmp_path: Path,
) -> None:
    found = scored_by(
        "transformers", COMPILED, default_model, windows, reference, torch_interpreter, tmp_path / "compiled"
    )
    assert kl_of(found, "decode") != kl_of(floor, "decode"), "it is another step than the one that is not compiled"
    assert kl_of(found, "decode") < 10 * kl_of(floor, "decode")


def test_of_likeliest_ids_alone_the_divergence_is_bounded_from_below(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    floor: Scored,
    torch_interpreter: Interpreter,
    tmp_path: Path,
) -> None:
    few = tmp_path / "few"
    said = reference_in(few, default_model, windows, torch_interpreter, most_bytes=0)
    found = scored_by("transformers", SDPA, default_model, windows, (few, said), torch_interpreter, tmp_path / "sdpa")
    for path in PATHS:
        for bound, whole in zip(found[path], floor[path], strict=True):
            assert "kl" not in bound
            assert "only the likeliest ids are kept" in bound["missing"]["kl"]
            assert 0 <= bound["kl_bound"] <= whole["kl"] + 1e-9


ALONE = """
import json, sys, torch, transformers
folder, windows, scored = json.loads(sys.stdin.read())
model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="eager")
total = 0.0
for ids in windows:
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].float()
    kept = torch.log_softmax(logits, -1)[-scored - 1 : -1]
    total -= kept[range(scored), ids[-scored:]].double().sum().item()
print(json.dumps(total / (scored * len(windows))))
"""


def test_the_perplexity_is_that_of_a_script_that_knows_nothing_of_kasoku(
    default_model: Model,
    windows: list[list[int]],
    reference: tuple[Path, dict[str, Any]],
    torch_interpreter: Interpreter,
) -> None:
    nll = [each for window in reference[1]["prefill"]["nll"][:WINDOWS] for each in window]
    alone = subprocess.run(
        [str(torch_interpreter.python), "-c", ALONE],
        input=json.dumps([str(default_model.folder), windows[:WINDOWS], SCORED]),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    own, other = math.exp(math.fsum(nll) / len(nll)), math.exp(json.loads(alone.stdout))
    assert f"{own:.4g}" == f"{other:.4g}"
