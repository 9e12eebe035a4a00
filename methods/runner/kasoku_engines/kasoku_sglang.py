"""The engine of SGLang (0.5.17) for NVIDIA GPUs: its Engine in this process, no server, token IDs in and out.

SGLang's scheduler, which holds the model, is a child process. Ids are stamped where they reach this one, as they would
reach any program that uses SGLang. The KV cache is sized to the job as it is with vLLM, so that memory used says what
the model needs and not what a card has. The radix cache, which reuses prompts, is off. Decoding replays a CUDA graph
for one sequence; prompts are read without one.

Options:
  dtype             instead of the job's
  engine_arguments  anything else that SGLang's ServerArgs takes, such as {"attention_backend": "triton"}; these win
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path

import kasoku_children
import kasoku_sglang_failure
import kasoku_sglang_scheduler
import kasoku_torch_facts as torch_facts
import kasoku_worker_facts as worker_facts
from kasoku_config_facts import resolved_config
from kasoku_describe import version_of
from kasoku_engine import Engine, Request, UnsupportedError
from kasoku_engine_log import own_log_size
from kasoku_failure import code_refused
from kasoku_sglang_sampling import SglangSampling, finish_of, greedy_parameters
from kasoku_sglang_scoring import SglangScoring, margin_of

OPTIONS = ("dtype", "engine_arguments")
PACKAGES = ("torch", "sglang", "sglang-kernel", "flashinfer-python", "transformers")
PROFILED_TOKENS = 3
# Of a request's context SGLang keeps a few places for itself, and silently cuts what does not fit.
PLACES_KEPT = 8
LENGTH_STEP = 128
# As with vLLM, so that the two reserve alike.
SPARE_KV_TOKENS = 512
SMALLEST_KV_BYTES = 64 << 20
ANSWER_WAIT_MS = 500
SOCKETS = "KASOKU_SOCKETS"  # names a folder whose path is short enough for them
# Its other kernels have "flash" in their names as well.
NO_ATTENTION = ("flashinfer::norm", "flashinfer::sampling", "flashinfer::activation")
VARIABLES = {
    "DO_NOT_TRACK": "1",
    "SGLANG_USE_SGL_FA3_KERNEL": "1",  # or it looks for one on the hub, which is code
    "SGLANG_NUMA_BIND_V2": "0",  # or it binds its processes by a script in /tmp that anybody may write
    # the places that it keeps may lie beyond the model's own context, where no token ever is
    "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1",
}


class SglangEngine(SglangScoring, Engine):
    """One SGLang Engine and the event loop that it lives in."""

    def import_packages(self, job: dict) -> None:
        for name, value in VARIABLES.items():
            os.environ.setdefault(name, value)
        if job.get("threads"):
            os.environ["OMP_NUM_THREADS"] = str(job["threads"])

        import sglang
        import torch
        from sglang.srt.entrypoints import engine

        self.sglang, self.torch, self.sglang_engine = sglang, torch, engine

    def load(self, job: dict) -> dict:
        self.options = dict(job.get("options") or {})
        for name in self.options:
            if name not in OPTIONS:
                raise UnsupportedError("The sglang engine has no option %r; it has %s." % (name, ", ".join(OPTIONS)))
        if job.get("device") != "cuda":
            raise UnsupportedError("SGLang is measured on NVIDIA GPUs, but the session runs on the CPU.")
        if not self.torch.cuda.device_count():
            raise UnsupportedError("The session has a GPU, but torch %s sees none." % self.torch.__version__)
        self.sampling = SglangSampling(job)
        self.job = job
        self.cached_of_last: int | None = None
        self.cached_of_timed: list = []
        self.asked, self.child_failed = 0, False
        self.waiting: object = None
        self.folder = Path(tempfile.mkdtemp(prefix="kasoku-sglang-", dir=os.environ.get(SOCKETS)))
        self.log_began = own_log_size()
        self._explaining(self._start)
        self.workers = self._ask("kasoku_loaded")
        self.log_began = own_log_size()
        worker_facts.verify_gpus(job, self.workers, "SGLang")
        self._check_quantisation()
        kv_bytes = [worker["kv_reserved_bytes"] for worker in self.workers]
        self.kv_reserved_bytes = None if None in kv_bytes else sum(kv_bytes)
        first = self.workers[0]
        versions = {name: version_of(name) for name in PACKAGES}
        return {
            "weights_bytes": sum(worker["weights_bytes"] for worker in self.workers),
            "dtype": first["dtype"],
            "device": first["device"],
            "threads": first["threads"],
            "versions": {name: version for name, version in versions.items() if version},
            "resolved": {
                "attention_implementation": self._attention_implementation(),
                "sampling": self.sampling.as_resolved(),
                "config": resolved_config(self.model_config.hf_config),
                "workers": self.workers,
                **self._quantisation_facts(),
                **self._configuration(),
            },
        }

    def generate(self, request: Request, emit: object) -> str | None:
        finish = self._completed(self._stream(request, emit))
        if not request.warmup:
            self.cached_of_timed.append(self.cached_of_last)
        return finish

    def generate_bare(self, request: Request) -> list:
        parameters = self.sampling.parameters(request.max_new_tokens, request.stop_token_ids)
        output = self._output(request.prompt_ids, parameters)
        finish_of(output["meta_info"]["finish_reason"], request.max_new_tokens, request.stop_token_ids)
        return list(output["output_ids"])

    def cached_prompt_tokens(self) -> int | None:
        return self.cached_of_last

    def timed_begins(self) -> None:
        self.before_timed = self._ask("kasoku_state")

    def timed_ends(self) -> None:
        self.peak_rss_bytes = worker_facts.peak_rss_of_tree(os.getpid())
        self.after_timed = self._ask("kasoku_state")

    def evidence(self) -> dict:
        first = self.workers[0]
        compiled = torch_facts.compile_facts(self.before_timed[0]["compiled"], self.after_timed[0]["compiled"])
        facts = {
            "attention_implementation": self._attention_implementation(),
            "dtype": first["dtype"],
            "cache": "paged",
            "wrapper": None,
            "converted_modules": 0,
            "cached_prompt_tokens": None if None in self.cached_of_timed else sum(self.cached_of_timed),
            "threads": first["threads"],
            "sampling": self.sampling.as_resolved(),
            "incomparable": self.sampling.departures(),
            "configuration": self._configuration(),
            "kv_dtypes": first["kv_dtypes"],
            **compiled,
        }
        if facts["cached_prompt_tokens"] is None:
            facts["missing"] = {"cached_prompt_tokens": "SGLang %s does not report it." % self.sglang.__version__}
        return facts

    def profile(self) -> dict:
        self._ask("kasoku_profile_begins")
        self._output(self.job["prompts"][0], self.sampling.parameters(PROFILED_TOKENS, ()))
        calls = self._ask("kasoku_profile_ends")[0]
        return {**profile_facts(calls), **torch_facts.collective_facts(calls, len(self.workers))}

    def greedy(self, prompt_ids: list) -> dict:
        parameters = greedy_parameters(self.sampling.max_new_tokens, self.sampling.stop_token_ids)
        output = self._output(prompt_ids, parameters, top_logprobs_num=2)
        margins = [margin_of(best or []) for best in output["meta_info"].get("output_top_logprobs") or ()]
        ids = list(output["output_ids"])
        return {"ids": ids, "margins": margins if len(margins) == len(ids) else [None] * len(ids)}

    def memory(self) -> dict:
        columns = {"peak_rss_bytes": self.peak_rss_bytes, "kv_reserved_bytes": self.kv_reserved_bytes}
        for name in ("peak_allocated_bytes", "peak_reserved_bytes"):
            columns[name] = sum(worker[name] for worker in self.after_timed)
        missing = {}
        if columns["kv_reserved_bytes"] is None:
            missing["kv_reserved_bytes"] = "SGLang %s does not expose its KV cache." % self.sglang.__version__
        return {**columns, "missing": missing}

    def close(self) -> None:
        try:
            self.engine.shutdown()
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task]))
            self.loop.close()
            kasoku_children.end_descendants()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        class Started(self.sglang_engine.Engine):
            run_scheduler_process_func = staticmethod(kasoku_sglang_scheduler.run)

        arguments = self._engine_arguments()
        tempfile.tempdir = str(self.folder)  # SGLang leaves the files behind by which its processes talk
        try:
            self.engine = Started(**arguments)
        except BaseException:
            kasoku_children.end_descendants()
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        finally:
            tempfile.tempdir = None
        self.loop = self.engine.loop
        self.server_args = self.engine.server_args
        self.model_config = self.engine.tokenizer_manager.model_config
        self.engine.tokenizer_manager.signal_handler_class = lambda _: kasoku_sglang_failure.SignalHandlers(
            self._give_up
        )

    def _engine_arguments(self) -> dict:
        import dataclasses

        job, gpus = self.job, max(1, len(self.job.get("gpu_uuids") or ()))
        longest = max(map(len, job["prompts"])) + max(self.sampling.max_new_tokens, PROFILED_TOKENS)
        context = context_for(longest, job.get("context_length"))
        dtype = self.options.get("dtype") or job["dtype"]
        wanted = {
            "model_path": job["model_folder"],
            "served_model_name": "kasoku",  # or a colon in the folder's path is refused
            "skip_tokenizer_init": True,
            "load_format": "safetensors",  # by itself SGLang also takes pickled weights
            "trust_remote_code": bool(job.get("trust_remote_code", False)),
            "dtype": dtype,
            "random_seed": self.sampling.seed,
            "context_length": context,
            "max_running_requests": 1,
            "max_total_tokens": kv_tokens_for(self._config(), context, dtype, gpus),
            "chunked_prefill_size": -(-context // LENGTH_STEP) * LENGTH_STEP,  # a prompt is read in one go
            "tp_size": gpus,
            "disable_radix_cache": True,
            "cuda_graph_bs_decode": [1],
            "disable_prefill_cuda_graph": True,
            "grammar_backend": "none",
            "incremental_streaming_output": True,
            "log_level": "warning",
            "custom_sigquit_handler": kasoku_sglang_failure.child_failed,
        }
        extra = dict(self.options.get("engine_arguments") or {})
        known = {field.name for field in dataclasses.fields(self.sglang_engine.ServerArgs)}
        for name in extra:
            if name not in known:
                raise UnsupportedError("SGLang %s has no engine argument %r." % (self.sglang.__version__, name))
        return {**wanted, **extra}

    def _config(self) -> object:
        from transformers import AutoConfig

        trust = bool(self.job.get("trust_remote_code", False))
        return AutoConfig.from_pretrained(self.job["model_folder"], trust_remote_code=trust)

    def _check_quantisation(self) -> None:
        quantisation = self.job.get("quantisation")
        if quantisation is not None and self.model_config.quantization is None:
            raise UnsupportedError(
                "The model is quantised (%s), which SGLang %s would not apply."
                % (quantisation, self.sglang.__version__)
            )

    def _quantisation_facts(self) -> dict:
        quantisation = self.job.get("quantisation")
        if quantisation is None:
            return {}
        packed = any(worker["packed"] for worker in self.workers)
        return {"quantisation": {"method": quantisation, "dequantised": not packed}}

    def _configuration(self) -> dict:
        """What SGLang resolved its arguments to."""
        arguments, first = self.server_args, self.workers[0]
        return {
            "attention_backends": first["attention_backends"],
            "sampling_backend": arguments.sampling_backend,
            "model_class": first["model_class"],
            "graph_batch_sizes": first["graph_batch_sizes"],
            "radix_cache": not arguments.disable_radix_cache,
            "overlap_schedule": not arguments.disable_overlap_schedule,
            "page_size": arguments.page_size,
            "kv_pool": first["kv_pool"],
            "kv_tokens": first["kv_tokens"],
            "quantization": self.model_config.quantization,
            "context_length": self.model_config.context_len,
            "max_running_requests": arguments.max_running_requests,
            "chunked_prefill_size": arguments.chunked_prefill_size,
            "tp_size": arguments.tp_size,
        }

    def _attention_implementation(self) -> str | None:
        return ", ".join(self.workers[0]["attention_backends"]) or None

    async def _stream(self, request: Request, emit: object) -> str:
        parameters = self.sampling.parameters(request.max_new_tokens, request.stop_token_ids)
        self.cached_of_last = None
        said: dict = {}
        outputs = await self.engine.async_generate(
            input_ids=list(request.prompt_ids), sampling_params=parameters, stream=True
        )
        async for output in outputs:
            if output["output_ids"]:
                emit(list(output["output_ids"]))
            said = output["meta_info"]
        self.cached_of_last = said.get("cached_tokens")
        return finish_of(said.get("finish_reason"), request.max_new_tokens, request.stop_token_ids)

    def _output(self, prompt_ids: list, parameters: dict, **logprobs: object) -> dict:
        """A whole response at once. `logprobs` are arguments of SGLang's that ask for log-probabilities."""
        more = {"return_logprob": True, **logprobs} if logprobs else {}
        return self._completed(
            self.engine.async_generate(input_ids=list(prompt_ids), sampling_params=parameters, stream=False, **more)
        )

    def _ask(self, name: str, **parameters: object) -> list:
        """Call a method of `SchedulerFacts` in every scheduler; what each of them answers."""
        return self._explaining(lambda: self._answers(name, parameters))

    def _answers(self, name: str, parameters: dict) -> list:
        from sglang.srt.managers.io_struct import RpcReqInput, sock_recv, sock_send

        self.asked += 1
        answer = str(self.folder / ("answer-%d" % self.asked))
        channel = self.engine.send_to_rpc
        sock_send(channel, RpcReqInput(method=name, parameters={"answer": answer, **parameters}))
        while not channel.poll(ANSWER_WAIT_MS):
            self._check_children()
        said = sock_recv(channel)
        if not said.success:
            raise RuntimeError("SGLang's scheduler failed: %s" % said.message)
        files = [kasoku_sglang_scheduler.answer_file(answer, rank) for rank in range(self.server_args.tp_size)]
        return [json.loads(Path(file).read_text(encoding="utf-8")) for file in files]

    def _check_children(self) -> None:
        alive = {process.pid for process in multiprocessing.active_children()}
        if self.child_failed or any(pid not in alive for pid in self.engine.get_all_child_pids()):
            raise RuntimeError(kasoku_sglang_failure.CHILD_FAILED + ".")

    def _completed(self, awaitable: object) -> object:
        """Its result; if SGLang fails, the reason that its processes left in the log."""
        return self._explaining(lambda: self.loop.run_until_complete(self._awaited(awaitable)))

    async def _awaited(self, awaitable: object) -> object:
        self.waiting = asyncio.ensure_future(awaitable)
        try:
            return await self.waiting
        except asyncio.CancelledError:
            raise RuntimeError(kasoku_sglang_failure.CHILD_FAILED + ".") from None
        finally:
            self.waiting = None

    def _give_up(self) -> None:
        """A child has failed: whoever waits for it waits no more."""
        self.child_failed = True
        if self.waiting is not None:
            self.waiting.cancel()

    def _explaining(self, work: object) -> object:
        try:
            return work()
        except Exception as error:
            refused = code_refused(error, self.job["model_folder"])
            reason = refused or kasoku_sglang_failure.explained(error, self.log_began)
            if reason is error:
                raise
            raise reason from error


def profile_facts(calls: dict) -> dict:
    """What a profile's {name of op or kernel: calls} say of attention and CUDA graphs."""
    attending = {name: count for name, count in calls.items() if not any(each in name for each in NO_ATTENTION)}
    facts = torch_facts.profile_facts(attending, on_cuda=True)
    facts.pop("token_choice")  # flashinfer's sampling has no op of torch's
    return facts


def context_for(longest: int, context_length: int | None) -> int:
    """The context that requests of up to `longest` tokens need: in steps, but within the model's where that will do."""
    length = -(-(longest + PLACES_KEPT) // LENGTH_STEP) * LENGTH_STEP
    return max(min(length, context_length or length), longest + PLACES_KEPT)


def kv_tokens_for(config: object, context: int, dtype: str, gpus: int) -> int:
    """How many tokens the KV cache holds: one request's with some to spare, and no fewer than fill the smallest one."""
    facts = resolved_config(config)
    sizes = [facts.get(name) for name in ("layers", "kv_heads", "head_dim")]
    tokens = context + SPARE_KV_TOKENS
    if None in sizes:
        return tokens
    layers, kv_heads, head_dim = sizes
    per_token = 2 * layers * max(1, kv_heads // gpus) * head_dim * (4 if dtype == "float32" else 2)
    return max(tokens, -(-SMALLEST_KV_BYTES // per_token))


ENGINE = SglangEngine
