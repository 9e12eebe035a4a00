"""The engine of Hugging Face transformers (4.35 and later): `generate` of a causal language model.

Options:
  attn_implementation  "eager" | "sdpa" | any name transformers knows | absent: what transformers chooses by itself
  sdpa_backends        kernels that scaled dot-product attention may use: ["flash"], ["math"], …; absent: torch chooses
  cache                "dynamic" | "static" | absent: what the model's own generation config says
  compile              "none" | "wrapper": model = torch.compile(model), then model.generate
                       | "decode": a static cache and the decode step that transformers compiles for it
  compile_options      arguments of transformers' CompileConfig for "decode", such as {"mode": "max-autotune"}
  quantise             quantise the weights while loading: "torchao-int8", … (kasoku_quantised_loading)
  quantised_cache      a KV cache in 8 bits: "fp8"
  bettertransformer    true: model.to_bettertransformer(), of optimum
  batching             "continuous": transformers' continuous batching
  speculation          who drafts tokens, and how many (kasoku_speculating)
  load_arguments       more arguments for from_pretrained: {"use_cache": false}; a device_map is the job's device
"""

from __future__ import annotations

import gc

import kasoku_children
import kasoku_generation_config as generation_configs
import kasoku_quantised_cache as quantised_cache
import kasoku_quantised_facts as quantised_facts
import kasoku_quantised_loading as quantising
import kasoku_speculating as speculating
import kasoku_torch_facts as torch_facts
import kasoku_transformers_loading as loading
from kasoku_cache import cache_kind, knows_cache_classes, reserved_bytes
from kasoku_config_facts import resolved_config
from kasoku_continuous_batching import ContinuousBatching
from kasoku_converted import converted_folder
from kasoku_engine import Engine, Request, Scores, UnsupportedError, longest, most_in_flight, peak_rss_bytes
from kasoku_failure import sentence_of
from kasoku_generating import Generating
from kasoku_scores import scores_of_logits
from kasoku_token_reads import PROMPT_TOKENS, token_reads
from kasoku_transformers_hooks import logits_before

OPTIONS = (
    "attn_implementation",
    "sdpa_backends",
    "cache",
    "compile",
    "compile_options",
    "quantise",
    "quantised_cache",
    "bettertransformer",
    "batching",
    "speculation",
    "load_arguments",
)
UNDRAFTED = ("compile", "compile_options", "quantised_cache", "batching")
UNBATCHED = ("sdpa_backends", "cache", "compile", "compile_options", "quantised_cache")


class TransformersEngine(Engine):
    """One model, and a way of generating with it."""

    def import_packages(self, job: dict) -> None:
        import torch
        import transformers

        self.torch = torch
        self.transformers = transformers
        if job.get("threads"):
            torch.set_num_threads(job["threads"])

    def load(self, job: dict) -> dict:
        torch, transformers = self.torch, self.transformers
        options = dict(job.get("options") or {})
        for name in options:
            if name not in OPTIONS:
                raise UnsupportedError(
                    "The transformers engine has no option %r; it has %s." % (name, ", ".join(OPTIONS))
                )
        self.options = options
        self.device = job.get("device", "cpu")
        gpus = self._gpus(job)

        arguments = {
            "use_safetensors": True,
            "local_files_only": True,
            "trust_remote_code": bool(job.get("trust_remote_code", False)),
        }
        version = torch_facts.version_tuple(transformers.__version__)
        arguments["dtype" if version >= (4, 56) else "torch_dtype"] = getattr(torch, job["dtype"])
        arguments.update(self._attention_arguments(options, version))
        arguments.update(self._load_arguments(options))
        torch_facts.check_dtype(job["dtype"], self.device)
        quantisation = job.get("quantisation")
        self.quantised = bool(quantisation or options.get("quantise"))
        quantised_cache.check(options.get("quantised_cache"))
        arguments.update(quantising.arguments(job, options.get("quantise"), on_cuda=self.device == "cuda"))
        model, of_weights = loading.loaded(transformers, job["model_folder"], arguments, quantisation)
        model.eval()
        model.to("cuda:0" if self.device == "cuda" else "cpu")
        if options.get("bettertransformer"):
            self._convert(model)
        self.bare_model = model
        self.cache: object = None
        self.generation_config = generation_configs.made(transformers, job, model, options)
        self.model = torch.compile(model) if options.get("compile") == "wrapper" else model
        self.generating = self._generating(job, arguments)
        self.sample_prompt = list(job["prompts"][0])
        first = next(model.parameters())
        self.counts_of_timed: list = []
        self.dtype = str(first.dtype).replace("torch.", "")
        return {
            "weights_bytes": sum(loading.weights_bytes(each, self.quantised) for each in self.generating.models()),
            "dtype": self.dtype,
            "device": str(first.device),
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "resolved": {
                "attention_implementation": self._attention_implementation(),
                "cache": self.generating.cache,
                "sampling": generation_configs.sampling(self.generation_config),
                "config": resolved_config(model.config, model),
                "interop_threads": torch.get_num_interop_threads(),
                "wrapper": type(self.model).__name__ if self.model is not model else None,
                **of_weights,
                **gpus,
            },
        }

    def prepare(self, request: Request) -> None:
        self.torch.manual_seed(request.seed)
        self.cached_of_last = request.depth  # otherwise every response begins with an empty cache
        if request.depth:
            self.generating.fill([request])

    def generate(self, request: Request, emit: object) -> str | None:
        self.generating.stream(request, emit)
        if not request.warmup:
            self.counts_of_timed.append(self.generating.counts())
        return None

    def cannot_serve(self, point: object) -> str:
        if point.depth and not self._can_begin_with_a_cache():
            return "This method cannot begin with tokens in its cache: that takes a growing one, in transformers 4.50."
        if point.rate or point.most == 1 or isinstance(self.generating, ContinuousBatching):
            return ""
        if self.options.get("speculation"):
            return "Speculation in transformers is for one response at a time."
        if point.concurrency:
            return "`generate` takes no request while it works on others; the method continuous-batching does."
        return ""

    def _can_begin_with_a_cache(self) -> bool:
        new_enough = torch_facts.version_tuple(self.transformers.__version__) >= (4, 50)
        grows = self.generating.cache == "dynamic" and self.options.get("compile", "none") == "none"
        return new_enough and grows and type(self.generating) is Generating and not self.options.get("quantised_cache")

    def reset(self) -> None:
        self.generating.reset()
        gc.collect()  # what a failure holds on to
        if self.device == "cuda":
            self.torch.cuda.empty_cache()

    def serve(self, load: object) -> None:
        if isinstance(self.generating, ContinuousBatching) or (load.point.batch or 1) > 1:
            self.torch.manual_seed(load.seed)
            self.generating.serve(load)
        else:
            super().serve(load)

    def generate_bare(self, request: Request) -> list:
        return self.generating.whole(request.prompt_ids)

    def cached_prompt_tokens(self) -> int | None:
        return self.cached_of_last

    def speculated(self) -> dict:
        return self.generating.counts()

    def timed_begins(self) -> None:
        self.counts_before_timed = torch_facts.compile_counts()
        self.warmup_compile_s = torch_facts.compile_seconds()

    def timed_ends(self) -> None:
        self.counts_after_timed = torch_facts.compile_counts()
        self.peak_rss_bytes = peak_rss_bytes()
        self.cuda_peaks = torch_facts.cuda_peaks() if self.device == "cuda" else None

    def evidence(self) -> dict:
        facts = {
            "attention_implementation": self._attention_implementation(),
            "dtype": self.dtype,
            "wrapper": type(self.model).__name__ if self.model is not self.bare_model else None,
            "converted_modules": self._converted_modules(),
            "use_cache": {
                "config": getattr(self.bare_model.config, "use_cache", None),
                "generation_config": self.generation_config.use_cache,
            },
            "cached_prompt_tokens": 0,
            "compile_s": {"warmup": self.warmup_compile_s},
            **torch_facts.compile_facts(self.counts_before_timed, self.counts_after_timed),
            "tuned_kernels": torch_facts.tuned_kernels(),
            **self.generating.speculation(self.counts_of_timed),
            **(quantised_facts.weights_held(self.bare_model) if self.quantised else {}),
        }
        try:
            self.cache = self.generating.a_few(self.sample_prompt)
        except Exception as error:  # the measurement is over and sound: what cannot be shown is said, and no more
            return {**facts, "cache": None, "missing": {"cache": sentence_of(error)}}
        facts["cache"] = cache_kind(self.cache)
        facts["kv_dtypes"] = quantised_cache.kv_dtypes(self.cache)
        if facts["cache"] is None and not knows_cache_classes():
            facts["cache"] = "dynamic"
        if facts["cache"] is None:
            reason = "transformers %s does not expose the cache it used." % self.transformers.__version__
            return {**facts, "missing": {"cache": reason}}
        return facts

    def profile(self) -> dict:
        facts: dict = {}
        missing: dict = {}
        try:
            facts["token_reads"] = token_reads(self.bare_model, self._generate_two)
        except Exception as error:
            facts["token_reads"], missing["token_reads"] = None, sentence_of(error)
        if self.quantised:
            try:
                facts["activations"] = quantised_facts.activations(self.bare_model, self._generate_two)
            except Exception as error:
                facts["activations"], missing["activations"] = None, sentence_of(error)
        with self.generating.observed() as processors:
            calls = torch_facts.profiled(
                lambda: self.generating.a_few(self.sample_prompt), all_threads=self.generating.in_threads
            )
        profile = torch_facts.profile_facts(calls, on_cuda=self.device == "cuda")
        if profile["cuda_graphs"] is None:
            missing["cuda_graphs"] = "This device has no CUDA graphs."
        if self.quantised:
            facts["matmul_ops"] = quantised_facts.matmul_ops(calls)
        if torch_facts.version_tuple(self.torch.__version__) < (2, 4):
            profile["compiled_regions_run"] = None
            missing["compiled_regions_run"] = "torch %s does not name compiled regions." % self.torch.__version__
        facts["sampling"] = {
            "choice": profile.pop("token_choice"),
            "processors": processors,
            "max_new_tokens": self.generation_config.max_new_tokens,
            "stop_token_ids": self.generation_config.eos_token_id or [],
        }
        return {**facts, **profile, "missing": missing}

    def greedy(self, prompt_ids: list) -> dict:
        return self.generating.greedy(prompt_ids)

    def score_prefill(self, ids: list, scored: int) -> Scores:
        with torch_facts.sdpa_restricted_to(self.options.get("sdpa_backends")):
            logits = logits_before(self.bare_model, ids, scored)
        return scores_of_logits(logits, ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        prompt, forced = ids[:-scored], ids[-scored:]
        return scores_of_logits(self.generating.forced(prompt, forced), forced)

    def memory(self) -> dict:
        columns = {"peak_rss_bytes": self.peak_rss_bytes, **torch_facts.peak_columns(self.cuda_peaks)}
        columns["kv_reserved_bytes"], reason = reserved_bytes(self.cache)
        if reason:
            columns["missing"]["kv_reserved_bytes"] = reason
        return columns

    def close(self) -> None:
        self.generating.close()
        del self.model, self.bare_model, self.generating
        kasoku_children.end_descendants()  # torch's compiler keeps a pool of processes

    def _gpus(self, job: dict) -> dict:
        if self.device != "cuda":
            return {}
        uuids = job.get("gpu_uuids") or []
        if len(uuids) > 1:
            raise UnsupportedError("The transformers engine runs on one GPU, but the session has %d." % len(uuids))
        return torch_facts.verify_gpus(uuids)

    def _attention_arguments(self, options: dict, version: tuple) -> dict:
        wanted = options.get("attn_implementation")
        if wanted is None:
            return {}
        if version >= (4, 36):
            return {"attn_implementation": wanted}
        if wanted == "eager":  # all there was before 4.36
            return {}
        raise UnsupportedError(
            "transformers %s has no %s attention; 4.36 and later do." % (self.transformers.__version__, wanted)
        )

    def _load_arguments(self, options: dict) -> dict:
        arguments = dict(options.get("load_arguments") or {})
        if "device_map" in arguments:
            arguments["device_map"] = "cuda:0" if self.device == "cuda" else "cpu"
        return arguments

    def _convert(self, model: object) -> None:
        """model.to_bettertransformer() puts its modules into the model it is called on; the evidence counts them."""
        if not hasattr(model, "to_bettertransformer"):
            raise UnsupportedError("transformers %s no longer has BetterTransformer." % self.transformers.__version__)
        try:
            model.to_bettertransformer()
        except (NotImplementedError, ValueError) as error:
            raise UnsupportedError("BetterTransformer cannot convert this model: %s" % error) from error

    def _generating(self, job: dict, arguments: dict) -> Generating:
        batching, backends = self.options.get("batching"), self.options.get("sdpa_backends")
        if self.options.get("speculation"):
            return self._speculating(job, arguments, backends)
        if batching is None:
            return Generating(self.model, self.bare_model, self.generation_config, backends)
        if batching != "continuous":
            raise UnsupportedError('The option batching is "continuous" or left out, not %r.' % batching)
        for name in UNBATCHED:
            if self.options.get(name):
                raise UnsupportedError("Continuous batching takes no option %s: that is its own choice." % name)
        return ContinuousBatching(self.bare_model, self.generation_config, longest(job), most_in_flight(job))

    def _speculating(self, job: dict, arguments: dict, backends: list | None) -> Generating:
        for name in UNDRAFTED:
            if self.options.get(name):
                raise UnsupportedError("Speculation goes with no option %s here." % name)
        speculation, draft = speculating.checked(dict(self.options["speculation"])), None
        if speculation["by"] == "assistant":
            folder = speculation.get("draft") or converted_folder(job)
            draft = speculating.draft_model(self.transformers, folder, arguments, speculation["tokens"])
            draft.to(self.bare_model.device)
        return speculating.Speculating(self.bare_model, self.generation_config, backends, speculation, draft)

    def _generate_two(self) -> None:
        """Two tokens by the bare model with a cache that grows, whatever the method compiles and reserves."""
        kept = quantised_cache.settings(self.options.get("quantised_cache"))
        prompt = self.sample_prompt[:PROMPT_TOKENS]
        config = self.transformers.GenerationConfig(
            max_new_tokens=2, do_sample=False, pad_token_id=0, use_cache=True, **kept
        )
        ids = self.torch.tensor([prompt], dtype=self.torch.long, device=self.bare_model.device)
        own, self.bare_model.generation_config = self.bare_model.generation_config, config
        try:
            self.bare_model.generate(ids, attention_mask=self.torch.ones_like(ids), generation_config=config)
        finally:
            self.bare_model.generation_config = own

    def _converted_modules(self) -> int:
        return sum("bettertransformer" in type(module).__module__ for module in self.bare_model.modules())

    def _attention_implementation(self) -> str | None:
        if self._converted_modules():
            return "bettertransformer"
        config = self.bare_model.config
        if hasattr(config, "_attn_implementation"):
            return config._attn_implementation
        return "eager" if torch_facts.version_tuple(self.transformers.__version__) < (4, 36) else None


ENGINE = TransformersEngine
