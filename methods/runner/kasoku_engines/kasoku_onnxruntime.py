"""The engine of ONNX Runtime, by onnxruntime-genai in this process: token IDs in and out, one at a time.

It reads what the model builder of onnxruntime-genai has made: the converted model of the job. A response has a
generator of its own, whose KV cache has the size of the response and lies in one buffer. Where the likeliest token is
taken, the library takes it; where one is drawn, or repetition is penalised, it is chosen in numpy (kasoku_sampling.py),
for the library's own sampling is not that of transformers: with top-p alone it draws tokens outside of it.

Options:
  session_options  of ONNX Runtime, as genai_config.json has them, such as {"graph_optimization_level": …}; these win
"""

from __future__ import annotations

import gc
import json
import tempfile
from importlib import metadata
from pathlib import Path

from kasoku_converted import conversion_facts, converted_folder
from kasoku_engine import Engine, Request, Scores, UnsupportedError, peak_rss_bytes
from kasoku_numpy_scores import scores_of_rows
from kasoku_onnx_graph import ATTENTION, Profile, Weights
from kasoku_sampling import Sampling, margin_of

OPTIONS = ("session_options",)
SETTINGS, FILE = "genai_config.json", "model.onnx"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-genai")


class OnnxRuntimeEngine(Engine):
    """One model; `Generator` holds what a response has so far."""

    def import_packages(self, job: dict) -> None:  # noqa: ARG002
        import numpy
        import onnx
        import onnxruntime_genai

        self.numpy, self.onnx, self.genai = numpy, onnx, onnxruntime_genai
        onnxruntime_genai.disable_telemetry_events()

    def load(self, job: dict) -> dict:
        self.options = dict(job.get("options") or {})
        for name in self.options:
            if name not in OPTIONS:
                raise UnsupportedError(
                    "The onnxruntime engine has no option %r; it has %s." % (name, ", ".join(OPTIONS))
                )
        if job.get("device") != "cpu":
            raise UnsupportedError(
                "The onnxruntime engine runs on the CPU; its build for GPUs is not among those known."
            )
        self.job, self.sampling = job, Sampling(job)
        self.folder = converted_folder(job)
        try:
            self.settings = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
            self.weights = Weights(self.onnx, self.folder / FILE)
        except (OSError, ValueError) as error:
            raise UnsupportedError("%s is not a model for onnxruntime-genai." % self.folder) from error
        self.tokens = max(len(prompt) for prompt in job["prompts"]) + job["sampling"]["max_new_tokens"]
        self.model = self._model()
        self.dtype = self.weights.activations or "float32"
        return {
            "weights_bytes": self.weights.all_bytes,
            "dtype": self.dtype,
            "device": str(self.model.device_type).lower(),
            "threads": job.get("threads"),
            "versions": {name: metadata.version(name) for name in DISTRIBUTIONS},
            "resolved": {
                "sampling": self.sampling.as_resolved(),
                "session_options": self._session_options(),
                "accuracy_levels": self.weights.accuracy_levels,
                "search": {"past_present_share_buffer": self._shares_buffer()},
                "conversion": conversion_facts(self.folder),
            },
        }

    def generate(self, request: Request, emit: object) -> str | None:
        generator = self._generator(len(request.prompt_ids) + request.max_new_tokens)
        stops = frozenset(request.stop_token_ids)
        generator.append_tokens(self._taken(request.prompt_ids))
        following = self._likeliest if self.sampling.is_plain else self._chosen
        self.sampling.begin(request.seed, request.prompt_ids)
        for token in following(generator, request.max_new_tokens):
            emit([token])
            if token in stops:
                return "eos"
        return "length"

    def generate_bare(self, request: Request) -> list:
        ids: list = []
        self.generate(request, ids.extend)
        return ids

    def cached_prompt_tokens(self) -> int | None:
        return 0  # each response has a generator of its own

    def timed_ends(self) -> None:
        self.peak_rss_bytes = peak_rss_bytes()

    def evidence(self) -> dict:
        return {
            "dtype": self.dtype,
            "cache": "static" if self._shares_buffer() else "dynamic",
            "wrapper": None,
            "converted_modules": 0,
            "compiled_frames": 0,
            "recompiles_timed": 0,
            "cached_prompt_tokens": 0,
            "threads": self.job.get("threads"),
            "sampling": self.sampling.as_resolved(),
            "accuracy_levels": self.weights.accuracy_levels,
        }

    def profile(self) -> dict:
        """One step with ONNX Runtime's profiler, which a session has from its beginning or not at all: the model is
        released, for there may not be the memory of two, loaded with it, and then again without.
        """
        with tempfile.TemporaryDirectory() as folder:
            del self.model
            gc.collect()
            try:
                model = self._model({"enable_profiling": str(Path(folder) / "profile")})
                generator = self._generator(2, model)
                generator.append_tokens(self._taken(self.job["prompts"][0][:1]))
                del generator, model
                gc.collect()  # the profile is written when nothing holds the session
                seen = Profile(Path(folder))
            finally:
                self.model = self._model()
        attention = {op: seen.calls[op] for op in ATTENTION if op in seen.calls}
        return {
            "attention_ops": sorted(attention),
            "attention_op_calls": attention,
            "attention_implementation": "plain" if list(attention) == ["Softmax"] else "fused",
            "op_calls": dict(sorted(seen.calls.items())),
            "providers": seen.providers,
            "product_types": seen.product_types,
            "weight_types": self._weight_types(seen),
            "weight_bytes_read": self.weights.product_bytes,
            "token_reads": self._token_reads(),
            "cuda_graphs": None,
            "missing": {"cuda_graphs": "This device has no CUDA graphs."},
        }

    def greedy(self, prompt_ids: list) -> dict:
        generator = self._generator(len(prompt_ids) + self.sampling.max_new_tokens)
        generator.append_tokens(self._taken(prompt_ids))
        stops = frozenset(self.sampling.stop_token_ids)
        ids: list = []
        margins: list = []
        while len(ids) < self.sampling.max_new_tokens and not (ids and ids[-1] in stops):
            margins.append(margin_of(self._row(generator)))
            generator.generate_next_token()
            ids.append(int(generator.get_next_tokens()[0]))
        return {"ids": ids, "margins": margins}

    def score_prefill(self, ids: list, scored: int) -> Scores:
        generator = self._generator(len(ids))
        generator.append_tokens(self._taken(ids[:-1]))
        return scores_of_rows(generator.get_output("logits")[0][-scored:], ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        generator = self._generator(len(ids))
        generator.append_tokens(self._taken(ids[:-scored]))
        rows = [self._row(generator)]
        for token in ids[-scored:-1]:
            generator.append_tokens(self._taken([token]))
            rows.append(self._row(generator))
        return scores_of_rows(self.numpy.stack(rows), ids[-scored:])

    def memory(self) -> dict:
        reason = "ONNX Runtime keeps no peak; see peak_rss_bytes."
        missing = dict.fromkeys(("peak_allocated_bytes", "peak_reserved_bytes"), reason)
        position = self._position_bytes()
        if position is None or not self._shares_buffer():
            missing["kv_reserved_bytes"] = "This model's KV cache is not a buffer of one size."
        columns = {"peak_rss_bytes": self.peak_rss_bytes, **dict.fromkeys(missing)}
        return {"kv_reserved_bytes": (position or 0) * self.tokens, **columns, "missing": missing}

    def close(self) -> None:
        del self.model

    def _model(self, more: dict | None = None) -> object:
        genai = self.genai
        config = genai.Config(str(self.folder))
        config.clear_providers()  # the CPU's is what is left
        options = {**self._session_options(), **(more or {})}
        # without an id of its own a response ends at the job's stop ids alone
        config.overlay(json.dumps({"model": {"eos_token_id": [], "decoder": {"session_options": options}}}))
        return genai.Model(config)

    def _session_options(self) -> dict:
        threads = self.job.get("threads")
        ours = {"intra_op_num_threads": threads, "inter_op_num_threads": 1} if threads else {}
        return {**ours, **(self.options.get("session_options") or {})}

    def _generator(self, tokens: int, model: object = None) -> object:
        parameters = self.genai.GeneratorParams(model or self.model)
        parameters.set_search_options(max_length=tokens, min_length=0, do_sample=False, repetition_penalty=1.0)
        return self.genai.Generator(model or self.model, parameters)

    def _likeliest(self, generator: object, count: int) -> object:
        for _ in range(count):
            generator.generate_next_token()
            yield int(generator.get_next_tokens()[0])

    def _chosen(self, generator: object, count: int) -> object:
        for step in range(count):
            token = self.sampling.choose(self._row(generator))
            yield token
            if step < count - 1:
                generator.append_tokens(self._taken([token]))

    def _row(self, generator: object) -> object:
        """The logits in the place of the next id (vocabulary)."""
        return generator.get_logits().reshape(-1)

    def _taken(self, ids: list) -> object:
        return self.numpy.asarray([ids], self.numpy.int32)

    def _weight_types(self, seen: Profile) -> list:
        """The types of weights whose products have run, that of the most bytes first."""
        packed = bool(seen.calls.get("MatMulNBits"))
        plain = any(seen.calls.get(op) for op in ("Gemm", "MatMul"))
        return [kind for kind in self.weights.types if (packed if kind.startswith("int") else plain)]

    def _shares_buffer(self) -> bool:
        return bool((self.settings.get("search") or {}).get("past_present_share_buffer"))

    def _position_bytes(self) -> int | None:
        """Bytes that the KV cache has for each position; None where its layers are not all alike."""
        decoder = (self.settings.get("model") or {}).get("decoder") or {}
        counts = [decoder.get(name) for name in ("num_hidden_layers", "num_key_value_heads", "head_size")]
        if "sliding_window" in decoder or not all(isinstance(count, int) for count in counts):
            return None
        layers, heads, width = counts
        return 2 * layers * heads * width * self.numpy.dtype(self.dtype).itemsize

    def _token_reads(self) -> dict | None:
        """What a decoding step reads (kasoku_token_reads.py has the form)."""
        position = self._position_bytes()
        if position is None:
            return None
        return {"weights_bytes": sum(self.weights.product_bytes.values()), "cache": [[1, position, 0, None]]}


ENGINE = OnnxRuntimeEngine
