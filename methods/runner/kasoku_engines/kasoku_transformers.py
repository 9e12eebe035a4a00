"""The engine of Hugging Face transformers (4.35 and later): `generate` of a causal language model, batch 1.

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
  load_arguments       more arguments for from_pretrained: {"use_cache": false}; a device_map is the job's device
"""

from __future__ import annotations

import copy

import kasoku_children
import kasoku_quantised_cache as quantised_cache
import kasoku_quantised_facts as quantised_facts
import kasoku_quantised_loading as quantising
import kasoku_torch_facts as torch_facts
import kasoku_transformers_loading as loading
from kasoku_cache import cache_kind, knows_cache_classes, static_cache_bytes
from kasoku_config_facts import resolved_config
from kasoku_engine import Engine, Request, Scores, UnsupportedError, peak_rss_bytes
from kasoku_failure import sentence_of
from kasoku_scores import scores_of_logits
from kasoku_token_reads import PROMPT_TOKENS, token_reads
from kasoku_transformers_hooks import Arrivals, forcing, logits_before, noting_margins, observed_processors, stopping_at

OPTIONS = (
    "attn_implementation",
    "sdpa_backends",
    "cache",
    "compile",
    "compile_options",
    "quantise",
    "quantised_cache",
    "bettertransformer",
    "load_arguments",
)
PROFILED_TOKENS = 3


class TransformersEngine(Engine):
    """One model and `model.generate`; `Arrivals` timestamps each token as it arrives."""

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
        self.compile = options.get("compile") or "none"
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
        self.arrivals = Arrivals(model)
        self.generation_config = self._generation_config(job, model)
        model.generation_config = self.generation_config  # or transformers fills our gaps with the model's defaults
        self.model = torch.compile(model) if self.compile == "wrapper" else model
        self.sample_prompt = list(job["prompts"][0])
        first = next(model.parameters())
        self.dtype = str(first.dtype).replace("torch.", "")
        return {
            "weights_bytes": loading.weights_bytes(model, self.quantised),
            "dtype": self.dtype,
            "device": str(first.device),
            "threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
            "resolved": {
                "attention_implementation": self._attention_implementation(),
                "cache": getattr(self.generation_config, "cache_implementation", None) or "dynamic",
                "sampling": self._requested_sampling(),
                "config": resolved_config(model.config, model),
                "interop_threads": torch.get_num_interop_threads(),
                "wrapper": type(self.model).__name__ if self.model is not model else None,
                **of_weights,
                **gpus,
            },
        }

    def prepare(self, request: Request) -> None:
        self.torch.manual_seed(request.seed)

    def generate(self, request: Request, emit: object) -> str | None:
        self.arrivals.begin(emit, len(request.prompt_ids))
        output = self._generate(request.prompt_ids, self.generation_config)
        self.arrivals.finish(output[0])
        return None

    def generate_bare(self, request: Request) -> list:
        output = self._generate(request.prompt_ids, self.generation_config)
        return output[0, len(request.prompt_ids) :].tolist()

    def cached_prompt_tokens(self) -> int | None:
        return 0  # every `generate` begins with an empty cache

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
            **(quantised_facts.weights_held(self.bare_model) if self.quantised else {}),
        }
        try:
            self.cache = getattr(self._generate_a_few(), "past_key_values", None)
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
        with observed_processors() as processors:
            calls = torch_facts.profiled(self._generate_a_few)
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
        margins: list = []
        output = self._generate(prompt_ids, self._greedy_config(), logits_processor=noting_margins(margins))
        sequence = getattr(output, "sequences", output)
        return {"ids": sequence[0, len(prompt_ids) :].tolist(), "margins": margins}

    def score_prefill(self, ids: list, scored: int) -> Scores:
        with self._kernels():
            logits = logits_before(self.bare_model, ids, scored)
        return scores_of_logits(logits, ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        rows: list = []
        prompt, forced = ids[:-scored], ids[-scored:]
        config = self._greedy_config()
        config.eos_token_id = None
        self.bare_model.generation_config = config  # or transformers fills the gap
        try:
            until = stopping_at(len(ids))  # asking for fewer new tokens would resize a static cache
            output = self._generate(prompt, config, logits_processor=forcing(forced, rows), stopping_criteria=until)
        finally:
            self.bare_model.generation_config = self.generation_config
        if getattr(output, "sequences", output)[0].tolist() != list(ids):
            raise UnsupportedError("This model's `generate` does not take the ids that are forced upon it.")
        return scores_of_logits(self.torch.stack(rows), forced)

    def _greedy_config(self) -> object:
        config = copy.deepcopy(self.generation_config)
        config.do_sample = False
        config.repetition_penalty = config.temperature = config.top_p = 1.0
        config.top_k = 50  # transformers' default: it warns of any other without sampling
        return config

    def memory(self) -> dict:
        missing = {}
        columns = {"peak_rss_bytes": self.peak_rss_bytes, **(self.cuda_peaks or {})}
        if self.cuda_peaks is None:
            for name in ("peak_allocated_bytes", "peak_reserved_bytes"):
                columns[name] = None
                missing[name] = "torch keeps no peak for memory on the CPU; see peak_rss_bytes."
        columns["kv_reserved_bytes"], reason = static_cache_bytes(self.cache)
        if reason:
            missing["kv_reserved_bytes"] = reason
        return {**columns, "missing": missing}

    def close(self) -> None:
        del self.model, self.bare_model, self.arrivals
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

    def _generation_config(self, job: dict, model: object) -> object:
        """The job's settings; of the model's own only its kind of cache, if the method names none."""
        sampling = job["sampling"]
        stop_token_ids = list(sampling.get("stop_token_ids") or ())
        settings = {
            "max_new_tokens": sampling["max_new_tokens"],
            "do_sample": sampling.get("temperature", 0) > 0,
            "repetition_penalty": sampling.get("repetition_penalty") or 1.0,
            "eos_token_id": stop_token_ids or None,
            "pad_token_id": stop_token_ids[0] if stop_token_ids else 0,
            "bos_token_id": model.generation_config.bos_token_id,
            "use_cache": self._use_cache(model),
        }
        if settings["do_sample"]:
            settings.update(
                temperature=float(sampling["temperature"]),
                top_p=float(sampling.get("top_p") or 1.0),
                top_k=int(sampling.get("top_k") or 0),
            )
        config = self.transformers.GenerationConfig(**settings)
        for name, value in self._cache_settings(job, model).items():
            setattr(config, name, value)  # 4.48's constructor takes no static cache
        return config

    def _use_cache(self, model: object) -> bool:
        """True, but where the method set it at load: then what became of that, for a model's own settings may win."""
        if "use_cache" in (self.options.get("load_arguments") or {}):
            return bool(model.generation_config.use_cache)
        return True

    def _cache_settings(self, job: dict, model: object) -> dict:
        if self.options.get("quantised_cache"):
            return quantised_cache.settings(self.options["quantised_cache"])
        wanted = self.options.get("cache")
        if self.compile == "decode":
            wanted = "static"
        elif wanted is None:
            wanted = getattr(model.generation_config, "cache_implementation", None)
        if wanted in (None, "dynamic"):
            return {}
        if not hasattr(self.transformers.GenerationConfig(), "cache_implementation"):
            raise UnsupportedError("transformers %s has no %s cache." % (self.transformers.__version__, wanted))
        settings = {"cache_implementation": wanted}
        if self.compile == "decode":
            settings.update(self._compile_settings())
        elif self.options.get("cache") == "static":
            settings["disable_compile"] = True
        lengths = {len(prompt) for prompt in job["prompts"]}
        if wanted == "static" and len(lengths) > 1:
            # One size for all prompts, so that a longer one does not compile the decode step again.
            settings["max_cache_len"] = max(lengths) + job["sampling"]["max_new_tokens"] - 1
        return settings

    def _compile_settings(self) -> dict:
        from transformers import PreTrainedModel

        if not hasattr(PreTrainedModel, "get_compiled_call"):
            raise UnsupportedError(
                "transformers %s does not compile its decode step; 4.48 and later do." % self.transformers.__version__
            )
        from transformers.generation.configuration_utils import CompileConfig

        options = dict(self.options.get("compile_options") or {})
        if self.device == "cuda" and not options:
            return {}  # transformers compiles by itself there
        config = CompileConfig(**options)
        if self.device != "cuda":
            config._compile_all_devices = True
        return {"compile_config": config}

    def _requested_sampling(self) -> dict:
        config = self.generation_config
        names = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty", "max_new_tokens", "eos_token_id")
        unused = () if config.do_sample else ("temperature", "top_p", "top_k")
        return {name: getattr(config, name) for name in names if name not in unused}

    def _generate(self, prompt_ids: list, config: object, **more: object) -> object:
        ids = self.torch.tensor([prompt_ids], dtype=self.torch.long, device=self.bare_model.device)
        with self._kernels():
            return self.model.generate(ids, attention_mask=self.torch.ones_like(ids), generation_config=config, **more)

    def _kernels(self) -> object:
        return torch_facts.sdpa_restricted_to(self.options.get("sdpa_backends"))

    def _generate_a_few(self) -> object:
        """Three tokens by the code that was timed. Stopped early: asking for fewer would resize a static cache."""
        stop_at = len(self.sample_prompt) + min(PROFILED_TOKENS, self.generation_config.max_new_tokens)
        config = copy.deepcopy(self.generation_config)
        config.return_dict_in_generate = True  # hands out the cache
        return self._generate(self.sample_prompt, config, stopping_criteria=stopping_at(stop_at))

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
