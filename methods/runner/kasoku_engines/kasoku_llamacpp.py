"""The engine of llama.cpp, in this process by llama-cpp-python's bindings: token IDs in and out, one at a time.

It reads a GGUF: the converted model of the job, or the user's own. The memory of the context is cleared before each
request, and holds the longest of them, as llama.cpp rounds it up. Flash attention, the type of the KV cache and the
size of a batch are the library's defaults; all layers go to the GPU where there is one. Tokens are chosen by
llama.cpp's own samplers, on the CPU, as in its other programs. Several GPUs have layers each, as llama.cpp does by
itself, or with the job's `split` "tensor_parallel" rows of each layer's matrices.

Options:
  gpu_layers       how many layers go to the GPU; absent: all
  flash_attention  true or false; absent: the library decides
"""

from __future__ import annotations

import ctypes
import os
import re

from kasoku_converted import conversion_facts, converted_folder
from kasoku_engine import Engine, Request, Scores, UnsupportedError, peak_rss_bytes
from kasoku_llamacpp_library import (
    ATTENTION,
    SeenOps,
    buffers,
    gguf_in,
    gpus_with_parts,
    offloaded,
    plain_type,
    system_facts,
    tensor_types,
)
from kasoku_llamacpp_log import Log
from kasoku_llamacpp_sampling import LlamaCppSampling
from kasoku_numpy_scores import scores_of_rows

OPTIONS = ("flash_attention", "gpu_layers")
FLASH = {None: -1, False: 0, True: 1}
GGML_TYPES = {"MOSTLY_BF16": "bf16", "MOSTLY_F16": "f16", "ALL_F32": "f32"}  # of unquantised files


class LlamaCppEngine(Engine):
    """One model, one context of one sequence, and the loop over `llama_decode`."""

    begins_with_a_cache = True

    def import_packages(self, job: dict) -> None:  # noqa: ARG002
        import llama_cpp
        import numpy

        self.library, self.numpy = llama_cpp, numpy
        self.log = Log(llama_cpp)
        llama_cpp.llama_backend_init()

    def load(self, job: dict) -> dict:
        library = self.library
        self.options = dict(job.get("options") or {})
        for name in self.options:
            if name not in OPTIONS:
                raise UnsupportedError("The llamacpp engine has no option %r; it has %s." % (name, ", ".join(OPTIONS)))
        self.job, self.on_cuda = job, job.get("device") == "cuda"
        self._check_device()
        folder = converted_folder(job)
        self.file = gguf_in(folder)
        parameters = library.llama_model_default_params()
        by_rows = job.get("split") == "tensor_parallel" and len(job.get("gpu_uuids") or ()) > 1
        parameters.split_mode = library.LLAMA_SPLIT_MODE_ROW if by_rows else library.LLAMA_SPLIT_MODE_LAYER
        parameters.n_gpu_layers = self.options.get("gpu_layers", -1) if self.on_cuda else 0
        self.model = library.llama_model_load_from_file(os.fsencode(self.file), parameters)
        if not self.model:
            raise UnsupportedError("llama.cpp cannot load %s: %s." % (self.file.name, self.log.fault()))
        self.vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self.model))
        self.tokens = max(len(prompt) for prompt in job["prompts"]) + job["sampling"]["max_new_tokens"]
        self.sampling = LlamaCppSampling(job, library, self.vocabulary, self.tokens)
        self.context = self._context()
        self.said = self.log.text()
        self.memory_of_context = library.llama_get_memory(self.context)
        self.batch = library.llama_n_batch(self.context)
        self.one = (library.llama_token * 1)()
        self.batch_of_one = library.llama_batch_get_one(self.one, 1)
        kv = buffers(self.said, "KV")
        self.kv_reserved_bytes = sum(kv.values()) if kv else None
        on_gpu, layers = offloaded(self.said)
        self.layers = {"offloaded": on_gpu, "of": layers}
        self.types = tensor_types(self.said)
        self.facts = conversion_facts(folder)
        return {
            "weights_bytes": library.llama_model_size(self.model),
            "dtype": self._dtype(),
            "device": "cuda:0" if on_gpu else "cpu",
            "threads": library.llama_n_threads(self.context),
            "versions": {"llama-cpp-python": library.__version__},
            "resolved": {
                "sampling": self.sampling.as_resolved(),
                "file": self.file.name,
                "description": self._description(),
                "tensor_types": self.types,
                "layers": self.layers,
                "model_buffers": buffers(self.said, "model"),
                "kv_buffers": kv,
                "compute_buffers": buffers(self.said, "compute"),
                "context": library.llama_n_ctx(self.context),
                "system": system_facts(library),
                "conversion": self.facts,
            },
        }

    def prepare(self, request: Request) -> None:
        self.library.llama_memory_clear(self.memory_of_context, True)
        self.cached_of_last = request.depth
        if request.depth:
            self._decode(request.prompt_ids[: request.depth])
            self.library.llama_synchronize(self.context)
        self.chain = self.sampling.chain(request.seed)
        self.sampling.told(self.chain, request.prompt_ids)

    def generate(self, request: Request, emit: object) -> str | None:
        sample, chain, context = self.library.llama_sampler_sample, self.chain, self.context
        stops, last = frozenset(request.stop_token_ids), request.max_new_tokens - 1
        try:
            self._decode(request.prompt_ids[request.depth :])
            for step in range(request.max_new_tokens):
                token = sample(chain, context, -1)
                emit([token])
                if token in stops:
                    return "eos"
                if step < last:
                    self._decode_one(token)
        finally:
            self.library.llama_sampler_free(chain)
        return "length"

    def generate_bare(self, request: Request) -> list:
        ids: list = []
        self.generate(request, ids.extend)
        return ids

    def cached_prompt_tokens(self) -> int | None:
        return self.cached_of_last  # the context is cleared before every request

    def timed_ends(self) -> None:
        self.peak_rss_bytes = peak_rss_bytes()

    def evidence(self) -> dict:
        layers = self.layers["of"]
        facts = {
            "dtype": self._dtype(),
            "cache": "static",
            "wrapper": None,
            "converted_modules": 0,
            "compiled_frames": 0,
            "recompiles_timed": 0,
            "cached_prompt_tokens": 0,
            "threads": self.library.llama_n_threads(self.context),
            "sampling": self.sampling.as_resolved(),
            "tensor_types": self.types,
            "gpus": len(gpus_with_parts(self.said)),
            "layers_offloaded": self.layers["offloaded"],
            "layers_not_offloaded": None if layers is None else layers - self.layers["offloaded"],
            "system": system_facts(self.library),
        }
        if layers is None:
            facts["missing"] = {"layers_not_offloaded": "This build of llama.cpp has no GPU to put layers on."}
        return facts

    def profile(self) -> dict:
        """One step of a second context that reports its ops; the timed one cannot be watched."""
        seen = SeenOps(self.library)
        context = self._context(seen)
        try:
            batch = (self.library.llama_token * 1)(self.job["prompts"][0][0])
            if self.library.llama_decode(context, self.library.llama_batch_get_one(batch, 1)) != 0:
                raise RuntimeError("llama.cpp could not compute the profiled step: %s" % self.log.fault())
        finally:
            self.library.llama_free(context)
        attention = {name: seen.calls[name] for name in ATTENTION if name in seen.calls}
        flash = "FLASH_ATTN_EXT" in attention
        return {
            "attention_ops": sorted(attention),
            "attention_op_calls": attention,
            "attention_implementation": "flash" if flash else "plain",
            "weight_types": sorted(seen.weight_bytes, key=seen.weight_bytes.get, reverse=True),
            "weight_bytes_read": seen.weight_bytes,
            "unexpected_weights": sum(
                count for kind, count in seen.weight_tensors.items() if kind not in self._expected_types()
            ),
            "weight_buffers": seen.buffer_bytes,
            "op_calls": dict(sorted(seen.calls.items())),
            "token_reads": self._token_reads(seen),
            "cuda_graphs": None,
            "missing": {"cuda_graphs": "llama.cpp does not say whether it launched any."},
        }

    def greedy(self, prompt_ids: list) -> dict:
        numpy = self.numpy
        self.library.llama_memory_clear(self.memory_of_context, True)
        stops = frozenset(self.sampling.stop_token_ids)
        ids: list = []
        margins: list = []
        self._decode(prompt_ids)
        while True:
            row = self._row(-1)
            second, best = numpy.partition(row, -2)[-2:]
            ids.append(int(row.argmax()))
            margins.append(float(best - second))
            if len(ids) == self.sampling.max_new_tokens or ids[-1] in stops:
                return {"ids": ids, "margins": margins}
            self._decode_one(ids[-1])

    def score_prefill(self, ids: list, scored: int) -> Scores:
        self.library.llama_memory_clear(self.memory_of_context, True)
        rows = self._rows(ids[:-1], scored)
        return scores_of_rows(rows, ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        self.library.llama_memory_clear(self.memory_of_context, True)
        rows = self.numpy.empty((scored, self.vocabulary), self.numpy.float32)
        self._decode(ids[:-scored])
        for place, token in enumerate(ids[-scored:]):
            rows[place] = self._row(-1)
            if place < scored - 1:
                self._decode_one(token)
        return scores_of_rows(rows, ids[-scored:])

    def memory(self) -> dict:
        reason = "llama.cpp reserves its buffers when it loads and keeps no peak; see its buffers among the facts."
        missing = dict.fromkeys(("peak_allocated_bytes", "peak_reserved_bytes"), reason)
        if self.kv_reserved_bytes is None:
            missing["kv_reserved_bytes"] = "llama.cpp did not say how large its KV cache is."
        return {
            "peak_rss_bytes": self.peak_rss_bytes,
            "kv_reserved_bytes": self.kv_reserved_bytes,
            "peak_allocated_bytes": None,
            "peak_reserved_bytes": None,
            "missing": missing,
        }

    def close(self) -> None:
        self.library.llama_free(self.context)
        self.library.llama_model_free(self.model)

    def _check_device(self) -> None:
        if not self.on_cuda:
            return
        if not self.library.llama_supports_gpu_offload():
            raise UnsupportedError("This environment's llama.cpp is built without CUDA, but the session runs on a GPU.")

    def _context(self, seen: SeenOps | None = None) -> object:
        library, threads = self.library, self.job.get("threads")
        parameters = library.llama_context_default_params()
        parameters.n_ctx = self.tokens
        parameters.flash_attn_type = FLASH[self.options.get("flash_attention")]
        parameters.no_perf = True
        if threads:
            parameters.n_threads = parameters.n_threads_batch = threads
        if seen is not None:
            field = type(parameters.cb_eval)
            parameters.cb_eval = (
                seen.callback.value if field in (int, type(None)) else ctypes.cast(seen.callback, field)
            )
        context = library.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError("llama.cpp cannot make a context of %d tokens: %s" % (self.tokens, self.log.fault()))
        return context

    def _decode(self, ids: list) -> None:
        """The ids in as few batches as the library takes; the logits of the last are then there."""
        for begin in range(0, len(ids), self.batch):
            part = ids[begin : begin + self.batch]
            array = (self.library.llama_token * len(part))(*part)
            self._checked(self.library.llama_decode(self.context, self.library.llama_batch_get_one(array, len(part))))

    def _decode_one(self, token: int) -> None:
        self.one[0] = token
        self._checked(self.library.llama_decode(self.context, self.batch_of_one))

    def _checked(self, status: int) -> None:
        if status != 0:
            raise RuntimeError("llama.cpp's decode returned %d: %s" % (status, self.log.fault()))

    def _row(self, place: int) -> object:
        """The logits at a place of the last batch (vocabulary), as a view that the next decode overwrites."""
        pointer = self.library.llama_get_logits_ith(self.context, place)
        return self.numpy.ctypeslib.as_array(pointer, shape=(self.vocabulary,))

    def _rows(self, ids: list, wanted: int) -> object:
        """The logits after each of the last `wanted` ids (wanted × vocabulary), from whole batches."""
        library, first = self.library, len(ids) - wanted
        rows = self.numpy.empty((wanted, self.vocabulary), self.numpy.float32)
        batch = library.llama_batch_init(self.batch, 0, 1)
        try:
            for begin in range(0, len(ids), self.batch):
                part = ids[begin : begin + self.batch]
                batch.n_tokens = len(part)
                for place, token in enumerate(part):
                    batch.token[place], batch.pos[place] = token, begin + place
                    batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                    batch.logits[place] = begin + place >= first
                self._checked(library.llama_decode(self.context, batch))
                for place in range(max(first - begin, 0), len(part)):
                    rows[begin + place - first] = self._row(place)
        finally:
            library.llama_batch_free(batch)
        return rows

    def _dtype(self) -> str:
        """The type of most of the file's weights; of packed ones, what they were packed from."""
        return plain_type(self.types) or self.job["dtype"]

    def _expected_types(self) -> tuple:
        """The types that the weights are to have: as the conversion was asked for, else any that the file has."""
        made = (self.facts or {}).get("made") or {}
        return (GGML_TYPES[made["type"]],) if made.get("type") in GGML_TYPES else tuple(self.types)

    def _token_reads(self, seen: SeenOps) -> dict | None:
        """What a decoding step reads (kasoku_token_reads.py has the form); None where layers differ in their cache."""
        kv = re.findall(r"KV buffer size", self.said)
        if len(kv) != 1 or not self.kv_reserved_bytes:
            return None
        position = self.kv_reserved_bytes // self.library.llama_n_ctx(self.context)
        return {"weights_bytes": sum(seen.weight_bytes.values()), "cache": [[1, position, 0, None]]}

    def _description(self) -> str:
        text = ctypes.create_string_buffer(256)
        self.library.llama_model_desc(self.model, text, 256)
        return text.value.decode(errors="replace")


ENGINE = LlamaCppEngine
