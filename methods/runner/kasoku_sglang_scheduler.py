"""SGLang's scheduler as Kasoku starts it: the process that holds the model, where the runner sees nothing.

SGLang's Engine starts `run` instead of its own function. The methods of `SchedulerFacts` are then called by name over
SGLang's own RPC, in the scheduler of every GPU. It hands back no values, so each leaves a file: the given path, its
rank and `.json`.
"""

from __future__ import annotations

import json
from pathlib import Path

import kasoku_worker_facts

PROFILE, FORCED = "_kasoku_profile", "_kasoku_forced"
BUFFERS = ("k_buffer", "v_buffer", "kv_buffer")
POOLS = ("full_kv_pool", "swa_kv_pool")  # within a pool, where some layers attend to a window


def run(*arguments: object, **named: object) -> None:
    """SGLang's `run_scheduler_process` with a scheduler that answers Kasoku."""
    from sglang.srt.managers import scheduler

    class Scheduler(SchedulerFacts, scheduler.Scheduler):
        def __init__(self, *arguments: object, **named: object) -> None:
            super().__init__(*arguments, **named)
            # a response ends at the job's stop ids, the same for every engine: SGLang would add the model's own
            self.model_config.hf_eos_token_id = set()

    scheduler.Scheduler = Scheduler
    scheduler.run_scheduler_process(*arguments, **named)


class SchedulerFacts:
    """Mixed into SGLang's scheduler: `self.tp_worker` and `self.ps` are its own. It is idle whenever it is asked."""

    def kasoku_loaded(self, answer: str) -> None:
        """What was loaded and how it was configured."""
        import kasoku_torch_facts
        import torch

        runner = self.tp_worker.model_runner
        parameters = list(runner.model.parameters())
        first = parameters[0]
        caches = kv_tensors(runner.token_to_kv_pool)
        graphs = getattr(runner.decode_cuda_graph_runner, "capture_bs", None)
        backends = {runner.decode_attention_backend_str, runner.prefill_attention_backend_str}
        self._kasoku_answer(
            answer,
            {
                "weights_bytes": sum(each.numel() * each.element_size() for each in parameters),
                "packed": kasoku_torch_facts.still_packed(parameters),
                "kv_reserved_bytes": kasoku_worker_facts.bytes_of(caches),
                "kv_dtypes": sorted({str(each.dtype).replace("torch.", "") for each in caches}),
                "kv_tokens": runner.max_total_num_tokens,
                "kv_pool": type(runner.token_to_kv_pool).__name__,
                "dtype": str(first.dtype).replace("torch.", ""),
                "device": str(first.device),
                "gpu_uuid": kasoku_worker_facts.gpu_uuid(first.device),
                "model_class": type(runner.model).__name__,
                "threads": torch.get_num_threads(),
                "attention_backends": sorted(str(each) for each in backends if each),
                "graph_batch_sizes": [] if graphs is None else [int(each) for each in graphs],
            },
        )

    def kasoku_state(self, answer: str) -> None:
        """What has been compiled so far, and the peaks of memory."""
        import kasoku_torch_facts

        compiled = kasoku_torch_facts.compile_counts()
        self._kasoku_answer(answer, {"compiled": compiled, **kasoku_worker_facts.allocator_peaks()})

    def kasoku_profile_begins(self, answer: str) -> None:
        """Profile this process's ops and kernels from now on."""
        setattr(self, PROFILE, kasoku_worker_facts.begun_profile())
        self._kasoku_answer(answer, {})

    def kasoku_profile_ends(self, answer: str) -> None:
        """{name of op or kernel: calls} since `kasoku_profile_begins`."""
        profile = getattr(self, PROFILE)
        delattr(self, PROFILE)
        self._kasoku_answer(answer, kasoku_worker_facts.calls_of(profile))

    def kasoku_force_begins(self, answer: str, ids: str) -> None:
        """The next ids that are chosen are these (JSON), in their order: the sampler's choice is replaced where it is
        made, after whatever was captured, so that the next step is run on the forced id.

        What the sampler is given are the model's logits: without penalties nothing has processed them.
        """
        import torch

        wanted, rows = json.loads(ids), []
        sampler = self.tp_worker.model_runner.sampler
        choose = sampler.forward

        def forced(logits_output: object, *arguments: object, **named: object) -> object:
            if len(rows) == len(wanted):
                return choose(logits_output, *arguments, **named)
            row = logits_output.next_token_logits[0].to(dtype=torch.float32, copy=True)
            chosen = choose(logits_output, *arguments, **named)
            chosen[0] = wanted[len(rows)]
            rows.append(row)
            return chosen

        sampler.forward = forced
        setattr(self, FORCED, (wanted, rows))
        self._kasoku_answer(answer, {})

    def kasoku_force_ends(self, answer: str) -> None:
        """{nll, top1} of the ids that were forced, and `file`, a numpy file of their log probabilities: the first
        rank's, which has the logits of all. The sampler chooses by itself again.
        """
        import numpy
        import torch
        from kasoku_scores import scores_of_logits

        del self.tp_worker.model_runner.sampler.forward
        wanted, rows = getattr(self, FORCED)
        delattr(self, FORCED)
        if self.ps.tp_rank or len(rows) < len(wanted):
            self._kasoku_answer(answer, {"nll": [], "top1": [], "file": None})
            return
        torch.cuda.synchronize()
        scores = scores_of_logits(torch.stack(rows), wanted)
        numpy.save(answer + ".npy", scores.log_probs)
        self._kasoku_answer(answer, {"nll": scores.nll, "top1": scores.top1, "file": answer + ".npy"})

    def _kasoku_answer(self, answer: str, said: dict) -> None:
        Path(answer_file(answer, self.ps.tp_rank)).write_text(json.dumps(said), encoding="utf-8")


def answer_file(answer: str, rank: int) -> str:
    """Where a rank leaves what it was asked."""
    return "%s-%d.json" % (answer, rank)


def kv_tensors(pool: object) -> list:
    """The tensors of a pool of keys and values, and of the pools within it."""
    found = []
    for name in BUFFERS:
        held = getattr(pool, name, None)
        found += held if isinstance(held, (list, tuple)) else [held]
    inner = [getattr(pool, name, None) for name in POOLS]
    found += [each for within in inner if within is not None for each in kv_tensors(within)]
    return [each for each in found if hasattr(each, "untyped_storage")]
