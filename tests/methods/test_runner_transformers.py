"""The transformers engine on the real default model: ids, sampling, memory, failures."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from methods.base.interpreter import Interpreter
from methods.models.models import Model
from tests.methods.engine_in_process import in_the_engine
from tests.methods.runner_process import RUNNER, Outcome, measure_job, run_in

pytestmark = [pytest.mark.model, pytest.mark.engines]
GREEDY = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}


@pytest.fixture(scope="module")
def plain(torch_interpreter: Interpreter, default_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run of transformers as it comes, greedy, two prompts."""
    job = measure_job(
        "transformers",
        model_folder=str(default_model.folder),
        prompts=[[504, 3575, 282, 4649, 314], [504, 3575]],
        requests=[
            {"request": 0, "warmup": True, "prompt_index": 0, "seed": 1},
            {"request": 1, "warmup": False, "prompt_index": 0, "seed": 2},
            {"request": 2, "warmup": False, "prompt_index": 1, "seed": 3},
            {"request": 3, "warmup": False, "prompt_index": 0, "seed": 4},
        ],
        sampling={"max_new_tokens": 5, "stop_token_ids": [], **GREEDY},
    )
    outcome = run_in(torch_interpreter, job, tmp_path_factory.mktemp("plain"))
    assert outcome.status == 0, outcome.log
    return outcome


def test_the_ids_are_those_that_transformers_alone_generates(
    plain: Outcome, torch_interpreter: Interpreter, default_model: Model
) -> None:
    script = """
import json, sys, torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
torch.set_num_threads(2)
ids = torch.tensor([[504, 3575, 282, 4649, 314]])
print(json.dumps(model.generate(ids, do_sample=False, max_new_tokens=5, eos_token_id=None)[0, 5:].tolist()))
"""
    command = [str(torch_interpreter.python), "-I", "-c", script, str(default_model.folder)]
    alone = json.loads(subprocess.run(command, capture_output=True, check=True, timeout=120).stdout)

    assert plain.tokens(1)[1] == alone
    assert plain.tokens(3)[1] == alone


def test_a_token_is_marked_when_its_step_is_over_and_costs_the_device_nothing(
    torch_interpreter: Interpreter, default_model: Model
) -> None:
    """A streamer takes it before the loop looks whether to stop: a wait. Our own criterion would be another kernel."""
    script = """
import json, sys, torch
sys.path.insert(0, sys.argv[2])
from kasoku_transformers_hooks import Arrivals, UnsupportedError
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM
from transformers.generation import utils
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
arrivals, events = Arrivals(model), []
model.register_forward_pre_hook(lambda *_: events.append("step"))
check = utils.StopCheck.__call__
def checked(*arguments):
    stop = check(*arguments)
    events.append("stop?")
    return stop
utils.StopCheck.__call__ = checked
class Emit:
    def __call__(self, ids):
        events.append(ids)
    def mark(self, fetch):
        events.append("token")
        self.fetch = fetch
class Ops(TorchDispatchMode):
    count = 0
    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += 1
        return function(*arguments, **(named or {}))
def generated(tokens):
    with Ops() as ops:
        out = model.generate(ids, max_new_tokens=tokens, do_sample=False, eos_token_id=None)
    return out[0], ops.count
def refusal(work):
    try:
        work()
    except UnsupportedError as error:
        return str(error)
ids, emit = torch.tensor([[504, 3575, 282, 4649, 314]]), Emit()
_, alone = generated(4)
unheard = [event for event in events if event not in ("step", "stop?")]
events.clear()
arrivals.begin(emit, 5)
out, watched = generated(4)
arrivals.finish(out)
heard = list(events)
fetched = [emit.fetch(1), emit.fetch(2)]
arrivals.begin(emit, 5)
said = [refusal(lambda: arrivals.finish(out))]
arrivals.begin(emit, 3)
said.append(refusal(lambda: generated(2)))
print(json.dumps([out[5:].tolist(), heard, fetched, unheard, said, [alone, watched]]))
"""
    command = [str(torch_interpreter.python), "-I", "-c", script, str(default_model.folder), str(RUNNER)]
    ran = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr.decode()
    ids, events, fetched, unheard, said, (alone, watched) = json.loads(ran.stdout)
    assert len(ids) == 4
    assert events == [*(["step", "stop?", "token"] * 3), "step", "stop?", ids[3:]]
    assert fetched == [ids[:1], ids[1:3]]
    assert unheard == []
    assert "does not ask the model for its inputs at every step" in said[0]
    assert "more than one token in a step" in said[1]
    assert watched == alone > 0


def test_the_prompt_is_not_among_the_tokens(plain: Outcome) -> None:
    assert [end["output_tokens"] for end in plain.of("request_end")] == [5, 5, 5, 5]
    assert [begin["prompt_tokens"] for begin in plain.of("request")] == [5, 5, 2, 5]


def test_what_was_loaded_is_told_as_it_turned_out(plain: Outcome) -> None:
    loaded = plain.one("loaded")
    assert loaded["dtype"] == "bfloat16"
    assert loaded["device"] == "cpu"
    assert loaded["threads"] == 2
    assert loaded["weights_bytes"] == 269_030_016
    assert set(loaded["versions"]) == {"torch", "transformers"}  # type: ignore[call-overload]
    assert loaded["load_s"] > 0  # type: ignore[operator]


def test_memory_that_cannot_be_read_is_null_with_its_reason(plain: Outcome) -> None:
    memory = plain.one("memory")
    missing = memory["missing"]
    assert isinstance(missing, dict)
    for column in ("peak_allocated_bytes", "peak_reserved_bytes", "kv_reserved_bytes"):
        assert memory[column] is None
        assert missing[column]
    assert int(str(memory["peak_rss_bytes"])) > 269_030_016


def test_greedy_shows_no_processor(plain: Outcome) -> None:
    sampling = plain.one("evidence")["evidence"]["sampling"]  # type: ignore[index]
    assert sampling["choice"] == "greedy"
    assert sampling["processors"] == []


def test_sampling_is_told_as_resolved_and_follows_the_seed(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    job = measure_job(
        "transformers",
        model_folder=str(default_model.folder),
        sampling={
            "max_new_tokens": 8,
            "stop_token_ids": [2],
            "temperature": 0.9,
            "top_p": 0.95,
            "top_k": 40,
            "repetition_penalty": 1.2,
        },
        requests=[
            {"request": n, "warmup": n == 0, "prompt_index": 0, "seed": seed} for n, seed in enumerate([7, 7, 8])
        ],
    )
    outcome = run_in(torch_interpreter, job, tmp_path)

    assert outcome.status == 0, outcome.log
    assert outcome.tokens(0)[1] == outcome.tokens(1)[1]
    assert outcome.tokens(1)[1] != outcome.tokens(2)[1]
    sampling = outcome.one("evidence")["evidence"]["sampling"]  # type: ignore[index]
    assert sampling["choice"] == "sampled"
    assert sampling["stop_token_ids"] == [2]
    applied = {key: value for entry in sampling["processors"] for key, value in entry.items() if key != "name"}
    assert applied == {"penalty": 1.2, "temperature": 0.9, "top_k": 40, "top_p": 0.95}


def test_a_stop_token_ends_the_response(
    plain: Outcome, torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    third = plain.tokens(1)[1][2]
    job = measure_job(
        "transformers",
        model_folder=str(default_model.folder),
        sampling={"max_new_tokens": 5, "stop_token_ids": [third], **GREEDY},
    )
    outcome = run_in(torch_interpreter, job, tmp_path)

    assert outcome.tokens(1)[1] == plain.tokens(1)[1][:3]
    assert {end["finish"] for end in outcome.of("request_end")} == {"eos"}


def test_continuous_batching_gives_the_ids_of_generate_and_is_forced_through_its_own_steps(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    job = measure_job(
        "transformers",
        model_folder=str(default_model.folder),
        options={"batching": "continuous"},
        dtype="float32",
        sampling={"max_new_tokens": 6, "stop_token_ids": [], **GREEDY},
    )
    code = """
from kasoku_engine import Request
request, came = Request(job, {"request": 0}), []
engine.generate(request, lambda ids: came.append(ids))
ids = sum(came, [])
prompt = request.prompt_ids
greedy = engine.greedy(prompt)
prefill, decode = engine.score_prefill(prompt + ids, 5), engine.score_decode(prompt + ids, 5)
strange = engine.score_decode(prompt + [7] * 6, 5)
alone = engine.bare_model.generate(engine.torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None)
bare = engine.generate_bare(request)
engine.close()
print(json.dumps([
    came, bare, alone[0, 5:].tolist(), greedy, prefill.nll, decode.nll, decode.top1, strange.nll
]))
"""
    said: Any = in_the_engine(torch_interpreter, job, code)
    came, bare, alone, greedy, prefill, decode, top1, strange = said

    assert [len(ids) for ids in came] == [1] * 6
    assert [each for ids in came for each in ids] == bare == alone == greedy["ids"]
    assert len(greedy["margins"]) == 6
    assert min(greedy["margins"]) > 0
    assert decode == pytest.approx(prefill, abs=1e-4)
    assert top1 == alone[1:]
    assert sum(strange) > sum(decode) + 5


def test_continuous_batching_refuses_what_it_would_leave_out(
    torch_interpreter: Interpreter, default_model: Model, tmp_path: Path
) -> None:
    penalised = {"max_new_tokens": 4, "stop_token_ids": [], **GREEDY, "repetition_penalty": 1.1}
    changes = {"model_folder": str(default_model.folder), "options": {"batching": "continuous"}}
    outcome = run_in(torch_interpreter, measure_job("transformers", **changes, sampling=penalised), tmp_path)

    assert outcome.one("error")["kind"] == "unsupported"
    assert "cannot apply RepetitionPenaltyLogitsProcessor" in str(outcome.one("error")["message"])


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"options": {"atention": "sdpa"}}, "unsupported", "no option 'atention'"),
        ({"device": "cuda", "gpu_uuids": ["GPU-1", "GPU-2"]}, "unsupported", "runs on one GPU"),
        ({"model_folder": "/no/such/model"}, "failed", "/no/such/model"),
    ],
)
def test_what_the_engine_cannot_do_is_one_error_line(
    torch_interpreter: Interpreter, tmp_path: Path, changes: dict[str, object], kind: str, says: str
) -> None:
    outcome = run_in(torch_interpreter, measure_job("transformers", **changes), tmp_path)

    assert outcome.status == 1
    assert outcome.one("error")["kind"] == kind
    assert says in str(outcome.one("error")["message"])


def test_memory_that_torch_cannot_get_is_out_of_memory(torch_interpreter: Interpreter, tmp_path: Path) -> None:
    engine = tmp_path / "greedy_for_memory.py"
    engine.write_text(
        "from kasoku_engine import Engine\n"
        "class Mine(Engine):\n"
        "    def load(self, job):\n"
        "        import torch\n"
        "        torch.empty(10**15)\n"
        "ENGINE = Mine\n"
    )
    outcome = run_in(torch_interpreter, measure_job(str(engine)), tmp_path)

    assert outcome.status == 1
    assert outcome.one("error")["kind"] == "oom"
