"""The engine of CTranslate2, in this process: `Generator.generate_batch` with a callback for each token.

It reads the converted model of the job, whose tokens are their ids as text. The callback runs in CTranslate2's own
thread, which stamps the ids. No token ends a response but the job's.

Options:
  compute_type  what it computes in: "int8" beside what the device has for the rest; absent: the job's dtype where the
                device computes in it, else float32
  mkl           true or false: the library for products of matrices of floats on a CPU is Intel's MKL, or oneDNN;
                absent: CTranslate2 decides by the maker of the processor
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from kasoku_converted import conversion_facts, converted_folder
from kasoku_engine import Engine, Request, Scores, UnsupportedError, peak_rss_bytes
from kasoku_numpy_scores import scores_of_rows

OPTIONS = ("compute_type", "mkl")
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
INT8_BESIDE = ("int8_bfloat16", "int8_float16", "int8_float32")
CHOSEN = re.compile(r"(Selected ISA|Use Intel MKL|SGEMM backend|GEMM_S8 backend|GEMM_S16 backend)\s*[:(]?\s*([\w .-]+)")


class CTranslate2Engine(Engine):
    """One Generator with one worker."""

    def import_packages(self, job: dict) -> None:
        mkl = (job.get("options") or {}).get("mkl")
        if mkl is not None and job.get("device") != "cuda":
            os.environ["CT2_USE_MKL"] = "1" if mkl else "0"
        os.environ["CT2_VERBOSE"] = "1"  # says on stderr, which is the log, what it chose

        import ctranslate2
        import numpy

        self.library, self.numpy = ctranslate2, numpy

    def load(self, job: dict) -> dict:
        options = dict(job.get("options") or {})
        for name in options:
            if name not in OPTIONS:
                raise UnsupportedError(
                    "The ctranslate2 engine has no option %r; it has %s." % (name, ", ".join(OPTIONS))
                )
        if len(job.get("gpu_uuids") or ()) > 1:
            raise UnsupportedError(
                "The ctranslate2 engine runs on one GPU, but the session has %d." % len(job["gpu_uuids"])
            )
        self.job = job
        self.sampling = job["sampling"]
        folder = converted_folder(job)
        device = "cuda" if job.get("device") == "cuda" else "cpu"
        wanted = self._compute_type(options.get("compute_type"), job["dtype"], device)
        threads = job.get("threads") or 0
        self.library.set_random_seed(self._seed())  # once: the thread that draws has its own from then on
        try:
            self.generator = self.library.Generator(
                str(folder), device=device, compute_type=wanted, inter_threads=1, intra_threads=threads
            )
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                raise
            raise UnsupportedError("CTranslate2 cannot load the model: %s" % str(error).splitlines()[0]) from error
        self.compute_type = self.generator.compute_type
        self.threads = threads or None
        self.facts = conversion_facts(folder)
        return {
            "weights_bytes": self._weights_bytes(folder),
            "dtype": self._dtype(),
            "device": "cuda:0" if device == "cuda" else "cpu",
            "threads": self.threads,
            "versions": {"ctranslate2": self.library.__version__},
            "resolved": {
                "compute_type": self.compute_type,
                "compute_type_asked": wanted,
                "sampling": self._resolved_sampling(),
                "conversion": self.facts,
            },
        }

    def generate(self, request: Request, emit: object) -> str | None:
        stops = frozenset(request.stop_token_ids)
        ended = []

        def step(result: object) -> bool:
            token = result.token_id
            emit([token])
            if token in stops:
                ended.append(token)
            return bool(ended)

        self._generate(request.prompt_ids, request.max_new_tokens, callback=step, **self._arguments())
        return "eos" if ended else "length"

    def cached_prompt_tokens(self) -> int | None:
        return 0  # no static prompt is given, the only thing that is cached between calls

    def timed_ends(self) -> None:
        self.peak_rss_bytes = peak_rss_bytes()

    def evidence(self) -> dict:
        return {
            "dtype": self._dtype(),
            "compute_type": self.compute_type,
            "weight_types": ["int8" if self.compute_type.startswith("int8") else self._dtype()],
            "wrapper": None,
            "converted_modules": 0,
            "compiled_frames": 0,
            "recompiles_timed": 0,
            "cached_prompt_tokens": 0,
            "threads": self.threads,
            "sampling": self._resolved_sampling(),
            "incomparable": self._departures(),
            "chosen": chosen_in_log(),
            "attention_ops": None,
            "cache": None,
            "missing": dict.fromkeys(("attention_ops", "cache"), "CTranslate2 does not show its ops or its cache."),
        }

    def greedy(self, prompt_ids: list) -> dict:
        stops = frozenset(self.sampling.get("stop_token_ids") or ())
        ids: list = []

        def step(result: object) -> bool:
            ids.append(result.token_id)
            return result.token_id in stops

        result = self._generate(
            prompt_ids, self.sampling["max_new_tokens"], callback=step, sampling_topk=1, return_logits_vocab=True
        )
        margins = []
        for row in self._rows(result.logits[0][: len(ids)]):
            second, best = self.numpy.partition(row, -2)[-2:]
            margins.append(float(best - second))
        return {"ids": ids, "margins": margins}

    def score_prefill(self, ids: list, scored: int) -> Scores:
        found = self.generator.forward_batch([as_text(ids)], return_log_probs=True)
        rows = self._array(found)[0]
        return scores_of_rows(rows[len(ids) - scored - 1 : len(ids) - 1], ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        result = self.generator.generate_batch(
            [as_text(ids)],
            max_length=len(ids),
            include_prompt_in_result=True,
            end_token=[],
            return_scores=True,
            return_logits_vocab=True,
        )[0]
        rows = self._rows(result.logits[0])
        if rows.shape[0] < len(ids) - 1:
            raise RuntimeError("CTranslate2 handed out %d rows of logits for %d ids." % (rows.shape[0], len(ids)))
        return scores_of_rows(rows[len(ids) - scored - 1 : len(ids) - 1], ids[-scored:])

    def memory(self) -> dict:
        columns = ("peak_allocated_bytes", "peak_reserved_bytes", "kv_reserved_bytes")
        missing = dict.fromkeys(columns, "CTranslate2 does not report it.")
        return {**dict.fromkeys(columns), "peak_rss_bytes": self.peak_rss_bytes, "missing": missing}

    def close(self) -> None:
        self.generator.unload_model()

    def _compute_type(self, asked: str | None, dtype: str, device: str) -> str:
        supported = self.library.get_supported_compute_types(device)
        if asked == "int8":
            beside = ["int8_" + dtype, *INT8_BESIDE]
            return next((kind for kind in beside if kind in supported), asked)
        if asked is not None:
            return asked
        return dtype if dtype in supported else "float32"

    def _generate(self, prompt_ids: list, tokens: int, **more: object) -> object:
        return self.generator.generate_batch(
            [as_text(prompt_ids)], max_length=tokens, include_prompt_in_result=False, end_token=[], **more
        )[0]

    def _arguments(self) -> dict:
        """The job's sampling in CTranslate2's arguments."""
        penalty = float(self.sampling.get("repetition_penalty") or 1.0)
        arguments = {"repetition_penalty": penalty}
        temperature = float(self.sampling.get("temperature") or 0.0)
        if temperature == 0:
            return {**arguments, "sampling_topk": 1}
        top_p = float(self.sampling.get("top_p") or 1.0)
        return {
            **arguments,
            "sampling_topk": int(self.sampling.get("top_k") or 0),
            "sampling_topp": top_p,
            "sampling_temperature": temperature,
        }

    def _seed(self) -> int:
        """The seed of the first timed request: there is one for all, drawn from in the order of the requests."""
        entries = self.job["requests"]
        first = next((entry for entry in entries if not entry.get("warmup")), entries[0])
        return int(first.get("seed", self.job.get("seed", 0)))

    def _resolved_sampling(self) -> dict:
        arguments = self._arguments()
        return {
            "choice": "greedy" if arguments["sampling_topk"] == 1 else "sampled",
            **arguments,
            "max_new_tokens": self.sampling["max_new_tokens"],
            "stop_token_ids": list(self.sampling.get("stop_token_ids") or ()),
        }

    def _departures(self) -> list:
        """Where the sampling differs from the session's settings, a phrase each."""
        if self._arguments()["repetition_penalty"] == 1:
            return []
        return ["the repetition penalty does not count the prompt"]

    def _dtype(self) -> str:
        """What it computes in, but for products of int8."""
        return self.compute_type.partition("int8_")[2] or self.compute_type

    def _weights_bytes(self, folder: Path) -> int | None:
        """The size of its file, in the type in which it is loaded."""
        stored = (self.facts or {}).get("made", {}).get("type")
        size = sum(path.stat().st_size for path in folder.glob("model*.bin"))
        if self.compute_type.startswith("int8") or stored not in ITEM_BYTES:
            return size if stored == "int8" else None
        return size * ITEM_BYTES[self._dtype()] // ITEM_BYTES[stored]

    def _rows(self, views: list) -> object:
        """Vectors of CTranslate2's as one array (rows × vocabulary)."""
        return self.numpy.stack([self._array(view).reshape(-1) for view in views])

    def _array(self, view: object) -> object:
        return self.numpy.array(view.to_device(self.library.Device.cpu).to(self.library.DataType.float32), copy=True)


def as_text(ids: list) -> list:
    return [str(token) for token in ids]


def chosen_in_log() -> dict | None:
    """What CTranslate2 said that it chose, from this process's own log; None where the log cannot be read."""
    try:
        text = Path("/proc/self/fd/2").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return {name.strip(): value.strip() for name, value in CHOSEN.findall(text)}


ENGINE = CTranslate2Engine
