"""The engine of vLLM (0.25 and later): AsyncLLM in this process, no server, token IDs in and out, one at a time.

vLLM's engine core and its workers are child processes. Ids are stamped where they reach this one, as they would reach
any program that uses vLLM. The KV cache is sized to the job, so that memory used says what the model needs and not what
a card has. Prefix caching is off: with it, repeats of a prompt measure the cache.

Options:
  dtype             instead of the job's
  leave_out         sampling parameters that are not handed on, so that vLLM's own defaults hold: ["max_tokens", …];
                    its default for max_tokens only where that is less than the job's
  speculation       {"by": "ngram", "tokens": 8, "longest_match": 3} or {"by": "draft-model", "tokens": 5}: who drafts,
                    in the second case with the model in the folder `draft`, else in that of the method's conversion
  engine_arguments  anything else that AsyncEngineArgs takes, such as {"enforce_eager": true}; these win
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import kasoku_children
import kasoku_quantised_facts as quantised_facts
import kasoku_torch_facts as torch_facts
import kasoku_vllm_quantised
import kasoku_vllm_worker
import kasoku_worker_facts
from kasoku_config_facts import resolved_config
from kasoku_engine import Engine, Request, UnsupportedError, most_in_flight
from kasoku_engine import longest as longest_of
from kasoku_engine_log import own_log_size
from kasoku_failure import code_refused
from kasoku_vllm_failure import explained
from kasoku_vllm_sampling import VllmSampling
from kasoku_vllm_scoring import VllmScoring
from kasoku_vllm_serving import MOST_BATCHED_TOKENS, VllmServing, beyond
from kasoku_vllm_sizes import kv_bytes_for, weights_in
from kasoku_vllm_speculation import VllmSpeculation, draft_folders, speculative_config

OPTIONS = ("dtype", "engine_arguments", "leave_out", "speculation")
PROFILED_TOKENS = 3
# vLLM recompiles for every other length.
LENGTH_STEP = 128
# What vLLM may take by fraction is not used: the KV cache has a size. It only has to be free when vLLM starts.
MEMORY_FRACTION = 0.01
VARIABLES = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would hold the wire open
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # or it takes all cores but one, whatever the session's thread count is
}


class VllmEngine(VllmServing, VllmScoring, VllmSpeculation, Engine):
    """One AsyncLLM and the event loop that it lives in."""

    def import_packages(self, job: dict) -> None:
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
        threads = job.get("threads")
        if threads:
            os.environ["OMP_NUM_THREADS"] = str(threads)

        import torch
        import vllm
        from vllm.v1.engine.async_llm import AsyncLLM

        self.torch, self.vllm, self.async_llm = torch, vllm, AsyncLLM
        if threads:
            torch.set_num_threads(threads)

    def load(self, job: dict) -> dict:
        self.options = dict(job.get("options") or {})
        for name in self.options:
            if name not in OPTIONS:
                raise UnsupportedError("The vllm engine has no option %r; it has %s." % (name, ", ".join(OPTIONS)))
        self.sampling = VllmSampling(job, list(self.options.get("leave_out") or ()))
        self.job = job
        self.cached_of_last: int | None = None
        self.cached_of_timed: list = []
        self.requests_made = 0
        own = self.options.get("engine_arguments") or {}
        self.finds_prefixes = "enable_prefix_caching" not in own and any(
            request.get("depth") for request in job["requests"]
        )
        self._check_gpus(job)
        self.loop = asyncio.new_event_loop()
        self.log_began = own_log_size()
        self.engine = self._completed(self._start(job))
        self.count_speculation()
        self.workers = self._ask("kasoku_loaded")
        self.log_began = own_log_size()
        first = self.workers[0]
        kasoku_worker_facts.verify_gpus(job, self.workers, "vLLM")
        kv_bytes = [worker["kv_reserved_bytes"] for worker in self.workers]
        self.kv_reserved_bytes = None if None in kv_bytes else sum(kv_bytes)
        return {
            "weights_bytes": self._weights_bytes(job),
            "dtype": first["dtype"],
            "device": first["device"],
            "threads": first["threads"],
            "versions": {
                "torch": self.torch.__version__,
                "vllm": self.vllm.__version__,
                "transformers": distribution_version("transformers"),
            },
            "resolved": {
                "attention_implementation": self._attention_implementation(),
                "sampling": self.sampling.as_resolved(),
                "config": resolved_config(self.config.model_config.hf_config),
                "workers": self.workers,
                **kasoku_vllm_worker.weights_facts(self.workers, job.get("quantisation")),
                **self._configuration(),
            },
        }

    def generate(self, request: Request, emit: object) -> str | None:
        reading = self.reading(request.depth)
        parameters = self.sampling.parameters(request.max_new_tokens, request.stop_token_ids, **reading)
        finish = self._completed(self._stream(request.prompt_ids, parameters, emit))
        if not request.warmup:
            self.cached_of_timed.append(beyond(self.cached_of_last, request.depth))
        return finish

    def generate_bare(self, request: Request) -> list:
        from vllm.sampling_params import RequestOutputKind

        parameters = self.sampling.parameters(request.max_new_tokens, request.stop_token_ids, **self.reading())
        parameters.output_kind = RequestOutputKind.FINAL_ONLY
        ids: list = []
        self._completed(self._stream(request.prompt_ids, parameters, ids.extend))
        return ids

    def cached_prompt_tokens(self) -> int | None:
        return self.cached_of_last

    def timed_begins(self) -> None:
        self.counts_of_timed = []
        self.compiled_before_timed = self._ask("kasoku_compiled")

    def timed_ends(self) -> None:
        self.peak_rss_bytes = kasoku_worker_facts.peak_rss_of_tree(os.getpid())
        self.compiled_after_timed = self._ask("kasoku_compiled")
        self.peaks = self._ask("kasoku_peaks")

    def evidence(self) -> dict:
        facts = {
            "attention_implementation": self._attention_implementation(),
            "dtype": self.workers[0]["dtype"],
            "cache": "paged",
            "wrapper": None,
            "converted_modules": 0,
            "cached_prompt_tokens": None if None in self.cached_of_timed else sum(self.cached_of_timed),
            "threads": self.workers[0]["threads"],
            "sampling": self.sampling.as_resolved(),
            "incomparable": self.sampling.departures(),
            "configuration": self._configuration(),
            "kv_dtypes": self.workers[0]["kv_dtypes"],
            **self._compile_facts(),
            **self.speculation_facts(),
        }
        if self.config.model_config.quantization is not None:
            facts.update(self.workers[0]["quantised"], token_reads=kasoku_vllm_quantised.reads_of_all(self.workers))
        if facts["cached_prompt_tokens"] is None:
            facts["missing"] = {"cached_prompt_tokens": "vLLM %s does not report it." % self.vllm.__version__}
        return facts

    def profile(self) -> dict:
        missing = {}
        self._ask("kasoku_profile_begins")
        parameters = self.sampling.parameters(PROFILED_TOKENS, (), **self.reading())
        self._completed(self._stream(self.job["prompts"][0], parameters, unheard))
        each = self._ask("kasoku_profile_ends")  # of a pipeline's parts together, or of one that does what all do
        calls = summed(each) if self.config.parallel_config.pipeline_parallel_size > 1 else each[0]
        profile = torch_facts.profile_facts(calls, on_cuda=self.job["device"] == "cuda")
        if profile["cuda_graphs"] is None:
            missing["cuda_graphs"] = "This device has no CUDA graphs."
        profile.pop("token_choice")
        if self.config.model_config.quantization is not None:
            profile["matmul_ops"] = quantised_facts.matmul_ops(calls)
        return {**profile, **torch_facts.collective_facts(calls, len(self.workers)), "missing": missing}

    def greedy(self, prompt_ids: list) -> dict:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        stop_token_ids = list(self.job["sampling"].get("stop_token_ids") or ())
        parameters = SamplingParams(
            output_kind=RequestOutputKind.DELTA,
            detokenize=False,
            ignore_eos=True,
            stop_token_ids=stop_token_ids or None,
            temperature=0.0,
            max_tokens=self.sampling.as_resolved()["max_new_tokens"],
            logprobs=2,
            **self.reading(),
        )
        ids: list = []
        margins: list = []
        self._completed(self._stream(prompt_ids, parameters, ids.extend, margins))
        return {"ids": ids, "margins": margins}

    def memory(self) -> dict:
        missing = {}
        columns = {"peak_rss_bytes": self.peak_rss_bytes, "kv_reserved_bytes": self.kv_reserved_bytes}
        for name in torch_facts.PEAKS:
            values = [worker[name] for worker in self.peaks]
            columns[name] = None if None in values else sum(values)
            if columns[name] is None:
                missing[name] = torch_facts.NO_PEAK
        if columns["kv_reserved_bytes"] is None:
            missing["kv_reserved_bytes"] = "vLLM %s does not expose its KV cache." % self.vllm.__version__
        return {**columns, "missing": missing}

    def close(self) -> None:
        async def shut_down() -> None:
            self.engine.shutdown()

        self.loop.run_until_complete(shut_down())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
            self.loop.run_until_complete(asyncio.wait([task]))
        self.loop.close()
        kasoku_children.end_descendants()

    async def _start(self, job: dict) -> object:
        arguments = self._engine_arguments(job)
        config = arguments.create_engine_config()
        cache = config.cache_config
        if cache.kv_cache_memory_bytes is None:
            cache.kv_cache_memory_bytes = kv_bytes_for(config, most_in_flight(job) * config.model_config.max_model_len)
        self.config = config
        quantisation = job.get("quantisation")
        if quantisation is not None and config.model_config.quantization is None:
            raise UnsupportedError(
                "The model is quantised (%s), which vLLM %s would not apply." % (quantisation, self.vllm.__version__)
            )
        return self.async_llm.from_vllm_config(config, disable_log_stats=True)

    def _engine_arguments(self, job: dict) -> object:
        import dataclasses

        from vllm.engine.arg_utils import AsyncEngineArgs

        most_new = self.sampling.parameters(job["sampling"]["max_new_tokens"], ()).max_tokens
        gpus = max(1, len(job.get("gpu_uuids") or ()))
        in_a_row = gpus if job.get("split") == "pipeline_parallel" else 1
        longest = longest_of(job) + max(0, most_new - job["sampling"]["max_new_tokens"], PROFILED_TOKENS - most_new)
        most = most_in_flight(job)
        length = -(-(longest + 1) // LENGTH_STEP) * LENGTH_STEP  # one more: a whole window is scored as a prompt
        wanted = {
            "model": job["model_folder"],
            "skip_tokenizer_init": True,
            "load_format": "safetensors",  # by itself vLLM also takes pickled weights
            "trust_remote_code": bool(job.get("trust_remote_code", False)),
            "dtype": self.options.get("dtype") or job["dtype"],
            "seed": self.sampling.seed,
            "max_model_len": max(min(length, job.get("context_length") or length), longest),
            "max_num_seqs": most,
            # or its trial run takes memory for prompts that nobody asks for
            "max_num_batched_tokens": max(length, min(most * length, MOST_BATCHED_TOKENS)),
            "tensor_parallel_size": gpus // in_a_row,
            "pipeline_parallel_size": in_a_row,
            "enable_prefix_caching": self.finds_prefixes,
            "gpu_memory_utilization": MEMORY_FRACTION,
            "generation_config": "vllm",  # the job's sampling and none of the model's own
            "disable_log_stats": True,
            "worker_extension_cls": "kasoku_vllm_extension.WorkerFacts",
        }
        if self.options.get("speculation"):
            wanted["speculative_config"] = speculative_config(job, dict(self.options["speculation"]))
            wanted["max_num_batched_tokens"] += LENGTH_STEP  # or there is no room for drafts beside a prompt
        known = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
        extra = dict(self.options.get("engine_arguments") or {})
        for name in extra:
            if name not in known:
                raise UnsupportedError("vLLM %s has no engine argument %r." % (self.vllm.__version__, name))
        return AsyncEngineArgs(**{**{name: value for name, value in wanted.items() if name in known}, **extra})

    def _weights_bytes(self, job: dict) -> int | None:
        if any(worker["repacked"] for worker in self.workers):
            if self.config.model_config.quantization is not None:
                return None  # what became of packed weights is not to be seen
            weights = sum(weights_in(folder) for folder in [Path(job["model_folder"]), *draft_folders(self.config)])
            return weights * getattr(self.torch, self.workers[0]["dtype"]).itemsize
        return sum(worker["weights_bytes"] for worker in self.workers)

    def _configuration(self) -> dict:
        """What vLLM resolved its arguments to."""
        config = self.config
        compilation = config.compilation_config
        mode = getattr(compilation, "mode", None)
        if mode is None:
            mode = getattr(compilation, "level", None)
        return {
            "compilation_mode": named(mode),
            "compilation_backend": str(getattr(compilation, "backend", "")) or None,
            "cudagraph_mode": named(getattr(compilation, "cudagraph_mode", None)),
            "cudagraph_capture_sizes": list(getattr(compilation, "cudagraph_capture_sizes", None) or ()),
            "enforce_eager": bool(config.model_config.enforce_eager),
            "prefix_caching": bool(config.cache_config.enable_prefix_caching),
            "block_size": config.cache_config.block_size,
            "kv_cache_memory_bytes": config.cache_config.kv_cache_memory_bytes,
            "quantization": config.model_config.quantization,
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
            "pipeline_parallel_size": config.parallel_config.pipeline_parallel_size,
            "async_scheduling": getattr(config.scheduler_config, "async_scheduling", None),
        }

    def _compile_facts(self) -> dict:
        before, after = self.compiled_before_timed[0], self.compiled_after_timed[0]
        facts = torch_facts.compile_facts(before["dynamo"], after["dynamo"])
        if after["vllm"] is not None:
            # what vLLM captures whole, compiles ahead of time or loads from an earlier process is no frame to Dynamo
            ahead = sum(after["vllm"].get(name, 0) for name in ("num_aot_compiles", "num_aot_artifacts_loaded"))
            traced = after["vllm"].get("num_graphs_seen", 0)
            facts["compiled_frames"] = max(facts["compiled_frames"] or 0, facts["graphs"] or 0, ahead, traced)
        return {**facts, "vllm_compilation": after["vllm"]}

    def _attention_implementation(self) -> str | None:
        return ", ".join(self.workers[0]["attention_backends"]) or None

    async def _stream(self, prompt_ids: list, parameters: object, emit: object, margins: list | None = None) -> str:
        self.requests_made += 1
        self.cached_of_last = None
        reason = None
        async for output in self.engine.generate(
            {"prompt_token_ids": list(prompt_ids)}, parameters, request_id="kasoku-%d" % self.requests_made
        ):
            completion = output.outputs[0]
            if completion.token_ids:
                emit(list(completion.token_ids))
            if margins is not None:
                margins.extend(margin_of(best) for best in completion.logprobs or ())
            if output.num_cached_tokens is not None:
                self.cached_of_last = max(self.cached_of_last or 0, output.num_cached_tokens)
            reason = completion.finish_reason or reason
        return {"length": "length", "stop": "eos"}.get(reason, "error")

    def _ask(self, name: str) -> list:
        """Call a method of `WorkerFacts` in every worker."""
        return self._completed(self.engine.collective_rpc(name))

    def _completed(self, awaitable: object) -> object:
        """Its result; if vLLM fails, the reason that its processes left in the log."""
        try:
            return self.loop.run_until_complete(awaitable)
        except Exception as error:
            reason = code_refused(error, self.job["model_folder"]) or explained(error, self.log_began)
            if reason is error:
                raise
            raise reason from error

    def _check_gpus(self, job: dict) -> None:
        on_cuda = job.get("device") == "cuda"
        from vllm.platforms import current_platform

        if on_cuda != bool(current_platform.is_cuda()):
            raise UnsupportedError(
                "This environment's vLLM is built for %s, but the session runs on %s."
                % (current_platform.device_name or "another device", "a GPU" if on_cuda else "the CPU")
            )


def summed(calls: list) -> dict:
    """The calls of several workers by name."""
    return {name: sum(each.get(name, 0) for each in calls) for name in {name for each in calls for name in each}}


def unheard(ids: list) -> None:
    """Takes the IDs of a request that is not measured."""


def margin_of(best: dict) -> float | None:
    """The best logit minus the second best, from {id: its log probability}: softmax subtracts the same from both."""
    ordered = sorted((entry.logprob for entry in best.values()), reverse=True)
    return ordered[0] - ordered[1] if len(ordered) > 1 else None


def named(value: object) -> str | None:
    """An enumeration's member by its name."""
    return None if value is None else str(getattr(value, "name", value))


def distribution_version(name: str) -> str | None:
    import kasoku_describe

    return kasoku_describe.version_of(name)


ENGINE = VllmEngine
