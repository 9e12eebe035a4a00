"""What SGLang is asked and what is read of its answers, and how the evidence of a GPU is judged; it is not loaded."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import methods
from methods.catalogue.availability import DeviceFacts, choice
from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.evidence import judge

HOPPER = "void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<flash::Collective…>>>(…)"
NORM = "void flashinfer::norm::RMSNormKernel<8u, __nv_bfloat16>(…)"
CALLS = {HOPPER: 48, NORM: 99, "void flashinfer::sampling::TopKTopPSamplingFromProbKernel(…)": 3, "cudaGraphLaunch": 2}
LOG = """
W1128 kernels: ImportError: no such optional thing
[2026-11-28 16:00:00] Scheduler hit an exception: Traceback (most recent call last):
  File "scheduler.py", line 4931, in run_scheduler_process
{fault}

During handling of the above exception, another exception occurred:
Exception: Capture cuda graph failed: see above
"""

RunnerModule = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def runner() -> Iterator[RunnerModule]:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(Path(methods.__file__).parent / "runner")
        before = set(sys.modules)
        yield importlib.import_module
        for name in set(sys.modules) - before:
            del sys.modules[name]


def job(**sampling: object) -> dict[str, object]:
    requests = [{"request": 0, "warmup": True, "seed": 7}, {"request": 1, "seed": 11}]
    return {"sampling": {"max_new_tokens": 64, **sampling}, "requests": requests}


def test_blocks_of_other_seeds_show_the_same_sampling(runner: RunnerModule) -> None:
    """Or each of them would be profiled and scored again."""
    sampling = runner("kasoku_sglang_sampling").SglangSampling
    others = {**job(), "requests": [{"request": 0, "warmup": True, "seed": 8}, {"request": 1, "seed": 12}]}

    assert sampling(job()).as_resolved() == sampling(others).as_resolved()


def test_a_fixed_length_ignores_every_end_and_a_stop_id_only_the_models_own(runner: RunnerModule) -> None:
    sampling = runner("kasoku_sglang_sampling").SglangSampling(job())

    fixed = sampling.parameters(64, [])
    assert fixed == {"temperature": 0.0, "repetition_penalty": 1.0, "max_new_tokens": 64, "ignore_eos": True}
    # SGLang reads stop ids only where the end is not ignored; its scheduler then knows no other end (below)
    stopping = sampling.parameters(64, [2, 5])
    assert (stopping["ignore_eos"], stopping["stop_token_ids"]) == (False, [2, 5])


def test_the_scheduler_knows_no_end_but_the_jobs(runner: RunnerModule, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    class Plain:
        def __init__(self, end: int) -> None:
            self.model_config = SimpleNamespace(hf_eos_token_id={end})

    managers = SimpleNamespace(Scheduler=Plain)
    managers.run_scheduler_process = lambda end: started.append(managers.Scheduler(end))
    for name in ("sglang", "sglang.srt"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    package = ModuleType("sglang.srt.managers")
    package.scheduler = managers  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sglang.srt.managers", package)
    runner("kasoku_sglang_scheduler").run(2)

    (scheduler,) = started
    assert isinstance(scheduler, Plain)
    assert scheduler.model_config.hf_eos_token_id == set()
    assert callable(scheduler.kasoku_loaded)  # type: ignore[attr-defined]


def test_sampling_is_the_jobs_and_says_where_it_departs(runner: RunnerModule) -> None:
    sampling = runner("kasoku_sglang_sampling").SglangSampling
    sampled = sampling(job(temperature=0.7, top_p=0.9, top_k=50, repetition_penalty=1.1))

    wanted = {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1}
    assert wanted.items() <= sampled.parameters(64, []).items()
    assert sampled.seed == 11
    assert sampled.departures() == [
        "the repetition penalty does not count the prompt",
        "top_p is counted over all tokens instead of the top_k likeliest",
    ]
    assert sampling(job(temperature=0.7, top_p=0.9)).departures() == []
    assert sampling(job(temperature=0.7, top_p=0.9)).parameters(1, [])["top_k"] == -1
    with pytest.raises(Exception, match=r"SGLang takes a repetition penalty of at most 2, not 2\.5"):
        sampling(job(repetition_penalty=2.5))


@pytest.mark.parametrize(
    ("reason", "stops", "means"),
    [
        ({"type": "length", "length": 64}, [], "length"),
        ({"type": "stop", "matched": 2}, [2, 5], "eos"),
        ({"type": "length", "length": 60}, [], "SGLang cut the response to 60 of 64 new tokens"),
        ({"type": "stop", "matched": "NaN happened"}, [2], "ended the response by itself: NaN happened"),
        (
            {"type": "abort", "message": "The prompt is too long."},
            [],
            "SGLang gave up the request: The prompt is too long",
        ),
        (None, [], "SGLang gave up the request: no reason"),
    ],
)
def test_a_response_that_ended_otherwise_is_an_error(
    runner: RunnerModule, reason: Mapping[str, object] | None, stops: list[int], means: str
) -> None:
    finish_of = runner("kasoku_sglang_sampling").finish_of
    if means in ("length", "eos"):
        assert finish_of(reason, 64, stops) == means
        return
    with pytest.raises(RuntimeError, match=means):
        finish_of(reason, 64, stops)


def test_the_context_has_room_for_what_it_keeps_to_itself(runner: RunnerModule) -> None:
    context_for = runner("kasoku_engines.kasoku_sglang").context_for

    assert context_for(300, 8192) == 384
    assert context_for(377, 8192) == 512  # 377 and 8 do not fit into 384
    assert context_for(300, 320) == 320
    assert context_for(320, 320) == 328  # beyond the model's own, where no token ever is


def test_the_kv_cache_is_sized_as_vllms_is(runner: RunnerModule) -> None:
    kv_tokens_for = runner("kasoku_engines.kasoku_sglang").kv_tokens_for
    large = SimpleNamespace(num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, hidden_size=4096)
    small = SimpleNamespace(num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8, hidden_size=2048)

    assert kv_tokens_for(large, 1024, "bfloat16", 1) == 1024 + 512
    assert kv_tokens_for(small, 384, "bfloat16", 1) == (64 << 20) // (2 * 16 * 8 * 64 * 2)
    assert kv_tokens_for(small, 384, "float32", 1) == (64 << 20) // (2 * 16 * 8 * 64 * 4)
    assert kv_tokens_for(SimpleNamespace(), 384, "bfloat16", 1) == 384 + 512


def test_a_prompts_scores_are_its_last_ids(runner: RunnerModule) -> None:
    prompt_scores = runner("kasoku_sglang_scoring").prompt_scores
    said = {
        "input_token_logprobs": [(None, 4, None), (-0.5, 9, None), (-1.5, 3, None)],
        "input_top_logprobs": [None, [(-0.5, 9, None)], [(-0.25, 8, None)]],
    }

    scores = prompt_scores(said, 2)
    assert (scores.nll, scores.top1, scores.log_probs) == ([0.5, 1.5], [9, 8], None)
    for less in ({}, {**said, "input_top_logprobs": []}):
        with pytest.raises(Exception, match="SGLang hands out no log-probabilities of a prompt"):
            prompt_scores(less, 2)
    with pytest.raises(Exception, match="hands out no log-probabilities"):
        prompt_scores(said, 3)  # of the first there is none


def test_margins_are_those_of_the_two_likeliest(runner: RunnerModule) -> None:
    margin_of = runner("kasoku_sglang_scoring").margin_of

    assert margin_of([(-0.25, 8, None), (-2.25, 9, None)]) == 2.0
    assert margin_of([(-0.25, 8, None)]) is None


def test_the_samplers_choice_is_replaced_and_put_back(
    runner: RunnerModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Row(list):  # type: ignore[type-arg]
        def to(self, **_: object) -> Row:
            return self

    class Sampler:
        def forward(self, logits: SimpleNamespace) -> list[int]:
            return [max(range(3), key=logits.next_token_logits[0].__getitem__)]

    facts = runner("kasoku_sglang_scheduler").SchedulerFacts
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(float32="float32"))
    sampler, scheduler = Sampler(), facts()
    scheduler.tp_worker = SimpleNamespace(model_runner=SimpleNamespace(sampler=sampler))
    scheduler.ps = SimpleNamespace(tp_rank=1)
    logits = SimpleNamespace(next_token_logits=[Row([0.0, 5.0, 1.0])])

    scheduler.kasoku_force_begins(str(tmp_path / "a"), "[2, 0]")
    assert [sampler.forward(logits)[0] for _ in range(3)] == [2, 0, 1]
    scheduler.kasoku_force_ends(str(tmp_path / "b"))
    assert sampler.forward(logits) == [1]
    assert "forward" not in vars(sampler)
    assert json.loads((tmp_path / "b-1.json").read_text()) == {"nll": [], "top1": [], "file": None}


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        (
            "torch.OutOfMemoryError: CUDA out of memory.",
            "oom",
            "SGLang failed: torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (
            "ValueError: Olmo3 is not supported for now.",
            "unsupported",
            "SGLang cannot run this here: Olmo3 is not supported",
        ),
        ("RuntimeError: nvcc: command not found", "failed", "SGLang failed: RuntimeError: nvcc: command not found"),
    ],
)
def test_what_a_child_said_before_it_failed_is_the_reason(
    runner: RunnerModule, tmp_path: Path, fault: str, kind: str, says: str
) -> None:
    failure = runner("kasoku_sglang_failure")
    log = tmp_path / "log"
    log.write_text("ValueError: of another block\n" + LOG.format(fault=fault))
    first_fault, opened = runner("kasoku_engine_log").first_fault, log.open("rb")
    kept = os.dup(2)
    os.dup2(opened.fileno(), 2)
    try:
        assert first_fault(29, ()) == ("ImportError", "no such optional thing")
        reason = failure.explained(RuntimeError(failure.CHILD_FAILED + "."), 29)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        opened.close()

    assert str(reason).startswith(says)
    assert runner("kasoku_failure").kind_of(reason) == kind


def test_a_failure_of_this_process_is_its_own_reason(runner: RunnerModule) -> None:
    explained = runner("kasoku_sglang_failure").explained
    error = AssertionError("chunked_prefill_size must be divisible by page_size")

    assert explained(error, None) is error
    refused = explained(ValueError("FA3 is not supported on this GPU.\nmore"), None)
    assert str(refused) == "SGLang cannot run this here: FA3 is not supported on this GPU."


def test_a_childs_signal_raises_once(runner: RunnerModule) -> None:
    failure = runner("kasoku_sglang_failure")
    with pytest.raises(RuntimeError, match="One of SGLang's processes failed"):
        failure.child_failed(signal.SIGQUIT, None)
    failure.child_failed(signal.SIGQUIT, None)


def test_who_waits_for_a_child_that_failed_waits_no_more(runner: RunnerModule) -> None:
    engine = runner("kasoku_engines.kasoku_sglang").SglangEngine()
    engine.job, engine.log_began, engine.waiting = {"model_folder": "/none"}, None, None
    engine.loop = asyncio.new_event_loop()

    async def failing() -> None:
        handlers = runner("kasoku_sglang_failure").SignalHandlers(engine._give_up)
        asyncio.get_running_loop().call_soon(handlers.running_phase_sigquit_handler)
        await asyncio.Event().wait()

    try:
        with pytest.raises(RuntimeError, match="One of SGLang's processes failed"):
            engine._completed(failing())
    finally:
        engine.loop.close()
    assert engine.child_failed


def test_pools_within_pools_are_counted(runner: RunnerModule) -> None:
    kv_tensors = runner("kasoku_sglang_scheduler").kv_tensors
    tensors = [SimpleNamespace(untyped_storage=None, name=name) for name in "abc"]
    inner = SimpleNamespace(k_buffer=[tensors[0]], v_buffer=[tensors[1]])

    assert kv_tensors(SimpleNamespace(full_kv_pool=inner, swa_kv_pool=SimpleNamespace(kv_buffer=tensors[2]))) == tensors
    assert kv_tensors(SimpleNamespace()) == []


@pytest.mark.parametrize(
    ("taken", "says"),
    [
        ((), ""),
        ((HOPPER,), "No FlashAttnFwd or PagedKVCache or fmha or _fwd_kernel_stage or _fwd_grouped_kernel_stage ran"),
        (("cudaGraphLaunch",), "0 CUDA graphs were launched"),
    ],
)
def test_in_effect_needs_its_attention_and_its_graph(
    runner: RunnerModule, tmp_path: Path, taken: tuple[str, ...], says: str
) -> None:
    profile_facts = runner("kasoku_engines.kasoku_sglang").profile_facts
    facts = profile_facts({name: count for name, count in CALLS.items() if name not in taken})
    must_show = load_catalogue(tmp_path).methods["sglang"].must_show
    judgement = judge(must_show, {"device": "cuda", "cached_prompt_tokens": 0, **facts})

    assert judgement.in_effect is (not taken), judgement.reason
    assert says in judgement.reason
    if not taken:
        assert facts["attention_ops"] == [HOPPER]
        reused = judge(must_show, {"device": "cuda", "cached_prompt_tokens": 12, **facts})
        assert (reused.in_effect, "the prefix cache was measured" in reused.reason) == (False, True)


def test_a_cpu_has_no_sglang(tmp_path: Path) -> None:
    method = load_catalogue(tmp_path).methods["sglang"]
    found = choice(method, DeviceFacts(kind="cpu", name="a CPU"), tmp_path, pytest.fail).found

    assert "It runs on an NVIDIA GPU only." in getattr(found, "reason", "")
