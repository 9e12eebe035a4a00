"""The engine `resident`: a decode step of Kasoku's own that stays on the GPU, by torch and Triton (docs/resident.md).

The model is loaded by transformers, which also reads the prompts. On a CPU Triton's interpreter runs the same kernels,
for tests (TRITON_INTERPRET=1); nothing is fast there.

Options:
  weights   "plain": as they are (the default) | "int8" | "fp8": rounded to nearest, with a scale for each row
  graph     false: launch kernel by kernel instead of replaying CUDA graphs
  dependent false: no programmatic dependent launch, as on cards before Hopper
  tune      false: leave the division of work among programs as it is by default
  whole     true: one kernel for all layers, where it can be had and is faster (kasoku_resident_whole); needs tune
  knobs     {role: {knob: value}}, over those that were found (kasoku_resident_knobs)
"""

from __future__ import annotations

import json
from pathlib import Path

import kasoku_resident_trial as trial
import kasoku_resident_weights as packing
import kasoku_torch_facts as torch_facts
import kasoku_transformers_loading as loading
from kasoku_asked_sampling import AskedSampling
from kasoku_config_facts import resolved_config
from kasoku_engine import Engine, Request, Scores, UnsupportedError, longest, peak_rss_bytes
from kasoku_resident_generating import AHEAD, Generating
from kasoku_resident_prompt import Graph, Prompts
from kasoku_resident_shape import shape_of
from kasoku_resident_step import ATTENDING, Step
from kasoku_resident_tuning import tuned
from kasoku_scores import scores_of_logits
from kasoku_transformers_hooks import logits_before

OPTIONS = ("weights", "graph", "dependent", "tune", "whole", "knobs")
LEAST_TRITON = (3, 5)
A_FEW = 3
SPARE_BYTES = 1 << 30  # for the prompt's activations, the kernels and CUDA itself


class ResidentEngine(Engine):
    """One model, and the step that generates with it."""

    def import_packages(self, job: dict) -> None:
        import torch
        import transformers

        self.torch, self.transformers = torch, transformers
        try:
            import triton
        except ImportError as error:
            raise UnsupportedError("torch was installed without Triton here, as its builds for CPUs are.") from error
        self.triton = triton
        if job.get("threads"):
            torch.set_num_threads(job["threads"])

    def load(self, job: dict) -> dict:
        torch = self.torch
        self.options = options = self._options(job)
        on_gpu = job.get("device") == "cuda"
        self._check_place(on_gpu)
        gpus = self._gpus(job) if on_gpu else {}
        torch_facts.check_dtype(job["dtype"], "cuda" if on_gpu else "cpu")
        dtype, device = getattr(torch, job["dtype"]), "cuda:0" if on_gpu else "cpu"
        self.sampling, self.length = AskedSampling(job), longest(job)
        self.shape = shape = shape_of(self.transformers, job["model_folder"], self.length)
        self._check_room(job["model_folder"], shape, dtype, on_gpu)
        arguments = {"use_safetensors": True, "local_files_only": True, "dtype": dtype, "attn_implementation": "sdpa"}
        model, of_weights = loading.loaded(self.transformers, job["model_folder"], arguments, None)
        self.model = model.eval().requires_grad_(False).to(device)
        config = resolved_config(self.model.config, self.model)  # before the output layer's weights are rounded apart
        self.weights = packing.Weights(self.model, shape, options["weights"])
        if on_gpu:
            torch.cuda.empty_cache()  # what they were packed from
        dependent = on_gpu and options["dependent"] and torch.cuda.get_device_capability() >= (9, 0)
        self.step = Step(shape, self.weights, self.length, self.sampling, self._rotary(device), dependent)
        self.prompts = Prompts(self.model, shape.layout)
        lengths = [len(prompt) - 1 for prompt in job["prompts"]]
        prompt_graphs = self.prompts.capture(lengths, Graph) if on_gpu and options["graph"] else {"lengths": []}
        knobs = self._knobs(on_gpu)
        self.sample_prompt = list(job["prompts"][0])
        self._try(knobs)
        self.replays_before = 0
        return {
            "weights_bytes": self.weights.held(),
            "dtype": job["dtype"],
            "device": device,
            "threads": torch.get_num_threads(),
            "versions": {name: getattr(self, name).__version__ for name in ("torch", "transformers", "triton")},
            "resolved": {
                "attention_implementation": "resident",
                "cache": "static",
                "sampling": self.sampling.as_resolved(),
                "config": config,
                "weights": options["weights"],
                "dependent_launch": dependent,
                "prompt_graphs": prompt_graphs,
                "knobs": knobs,
                **of_weights,
                **gpus,
            },
        }

    def generate(self, request: Request, emit: object) -> str | None:
        return self.generating.stream(request, emit)

    def generate_bare(self, request: Request) -> list:
        return self.generating.whole(request)

    def cached_prompt_tokens(self) -> int | None:
        return 0  # a response begins with none of an earlier one's keys and values

    def timed_begins(self) -> None:
        self.replays_before = self.generating.asked.count

    def timed_ends(self) -> None:
        self.steps_timed = self.generating.asked.count - self.replays_before
        self.peak_rss_bytes = peak_rss_bytes()
        self.cuda_peaks = torch_facts.cuda_peaks() if self.step.on_gpu else None

    def evidence(self) -> dict:
        how = self.options["weights"]
        matrices = len(self.weights.matrices())
        return {
            "attention_implementation": "resident",
            "cache": "static",
            "cached_prompt_tokens": 0,
            "dependent_launch": self.step.pdl,
            "steps_queued_ahead": AHEAD,
            "is_graph": self.generating.asked.is_graph,
            "kv_dtypes": [str(self.step.keys.dtype).replace("torch.", "")],
            "quantised_as": [] if how == "plain" else ["%s rows" % how],
            "quantised_layers": 0 if how == "plain" else matrices,
            "plain_layers": matrices if how == "plain" else 0,
        }

    def profile(self) -> dict:
        prompt = self.sample_prompt
        few = min(A_FEW, self.length - len(prompt))
        request = Request(self._a_few(prompt, few), {"request": 0})
        prompts_before = self.prompts.replays
        calls = torch_facts.profiled(lambda: self.generating.stream(request, lambda ids: None))  # noqa: ARG005
        on_gpu = self.step.on_gpu
        profile = torch_facts.profile_facts(calls, on_cuda=on_gpu)
        of_prompts = self.prompts.replays - prompts_before
        of_steps = profile["cuda_graphs"] - of_prompts if on_gpu else None
        missing = {}
        kernels = {name: count for name, count in calls.items() if name.startswith("resident_")}
        if not on_gpu:
            missing = dict.fromkeys(("cuda_graphs", "attention_ops", "matmul_ops"), "The interpreter runs no kernels.")
        cache = self.shape.cache_bytes(1, self.step.keys.element_size()) // self.shape.layers
        return {
            "attention_ops": sorted(name for name in kernels if name in ATTENDING) if on_gpu else None,
            "matmul_ops": sorted(kernels) if on_gpu else None,
            "kernel_calls": dict(sorted(kernels.items())) if on_gpu else None,
            "cuda_graphs": of_steps,
            "steps_timed": self.steps_timed,
            "token_reads": {
                "weights_bytes": self.weights.read_each_token(),
                "cache": [[self.shape.layers, cache, 0, None]],
            },
            "sampling": self.sampling.as_resolved(),
            "missing": missing,
        }

    def greedy(self, prompt_ids: list) -> dict:
        return self.generating.greedy(prompt_ids, self.sampling.max_new_tokens)

    def score_prefill(self, ids: list, scored: int) -> Scores:
        return scores_of_logits(logits_before(self.model, ids, scored), ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        return scores_of_logits(self.generating.forced(ids[:-scored], ids[-scored:]), ids[-scored:])

    def memory(self) -> dict:
        return {
            "peak_rss_bytes": self.peak_rss_bytes,
            "kv_reserved_bytes": self.shape.cache_bytes(self.length, self.step.keys.element_size()),
            **torch_facts.peak_columns(self.cuda_peaks),
        }

    def close(self) -> None:
        del self.generating, self.prompts, self.step, self.weights, self.model

    def _options(self, job: dict) -> dict:
        asked = dict(job.get("options") or {})
        for name in asked:
            if name not in OPTIONS:
                raise UnsupportedError("The resident engine has no option %r; it has %s." % (name, ", ".join(OPTIONS)))
        if job.get("quantisation"):
            raise UnsupportedError("The model is quantised (%s), which resident does not read." % job["quantisation"])
        if asked.get("whole") and not asked.get("tune", True):
            raise UnsupportedError(
                "The option whole is decided by timing, which tune = false turns off: leave one out."
            )
        defaults = {"weights": "plain", "graph": True, "dependent": True, "tune": True, "whole": True, "knobs": {}}
        return {**defaults, **asked}

    def _check_place(self, on_gpu: bool) -> None:
        version = self.triton.__version__
        if torch_facts.version_tuple(version) < LEAST_TRITON:
            raise UnsupportedError("resident needs Triton %d.%d or later, not %s." % (*LEAST_TRITON, version))
        if not on_gpu and not self.triton.knobs.runtime.interpret:
            raise UnsupportedError("resident runs on an NVIDIA GPU only.")
        if on_gpu and self.options["weights"] == "fp8" and self.torch.cuda.get_device_capability() < (8, 9):
            raise UnsupportedError("%s has no float8; resident-int8 runs." % self.torch.cuda.get_device_name())

    def _gpus(self, job: dict) -> dict:
        uuids = job.get("gpu_uuids") or []
        if len(uuids) > 1:
            raise UnsupportedError("The resident engine runs on one GPU, but the session has %d." % len(uuids))
        return torch_facts.verify_gpus(uuids)

    def _check_room(self, folder: str, shape: object, dtype: object, on_gpu: bool) -> None:
        """Raise UnsupportedError where weights and cache would not fit what is free, before anything is loaded."""
        if not on_gpu:
            return
        weights = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
        cache = shape.cache_bytes(self.length, dtype.itemsize)
        free, _ = self.torch.cuda.mem_get_info()
        if weights + cache + SPARE_BYTES > free:
            raise UnsupportedError(
                "The weights (%.1f GB) and a KV cache for %d tokens (%.1f GB) do not fit %s, which has %.1f GB free."
                % (weights / 1e9, self.length, cache / 1e9, self.torch.cuda.get_device_name(), free / 1e9)
            )

    def _rotary(self, device: str) -> tuple | None:
        """(cosines, sines) of all positions, as transformers makes them for this model, in float32."""
        if not self.shape.rope:
            return None
        torch = self.torch
        places = torch.arange(self.length, device=device)[None]
        with torch.no_grad():
            cosines, sines = self.model.model.rotary_emb(torch.zeros(1, device=device), places)
        if cosines.shape[-1] != self.shape.head:
            raise UnsupportedError("resident does not run a model that turns a part of each head alone.")
        return cosines[0].contiguous(), sines[0].contiguous()

    def _knobs(self, on_gpu: bool) -> dict:
        said = {}
        if on_gpu and self.options["tune"]:
            properties = self.torch.cuda.get_device_properties(0)
            card = json.dumps(
                [properties.name, properties.multi_processor_count, self.triton.__version__, self.step.pdl]
            )
            said = tuned(self.step, card, self.options["whole"])
        for role, knobs in self.options["knobs"].items():
            if role not in self.step.knobs:
                raise UnsupportedError("resident has no role %r; it has %s." % (role, ", ".join(self.step.knobs)))
            self.step.knobs[role] = {**self.step.knobs[role], **knobs}
        return {**self.step.knobs, "timed": said}

    def _try(self, knobs: dict) -> None:
        """Have the step tried beside transformers: with the one kernel, where that is used, and otherwise, or if that
        does not compute what it should on this card, with a kernel for each product."""
        ways = [self.step.whole, None] if self.step.whole is not None else [None]
        for way in ways:
            self.step.whole = way
            self.generating = Generating(self.prompts, self.step, with_graph=self.options["graph"])
            try:
                trial.check(self, self.shape.vocabulary, self.length)
            except UnsupportedError as error:
                if way is None:
                    raise
                knobs["timed"] = {**knobs["timed"], "whole": {"unused": str(error)}}
            else:
                break

    def _a_few(self, prompt: list, tokens: int) -> dict:
        return {"prompts": [prompt], "sampling": {"max_new_tokens": tokens}, "seed": 0}


ENGINE = ResidentEngine
