"""The engine of OpenVINO, by its own interface in this process: one inference per token, token IDs in and out.

It reads what optimum-intel exported: the converted model of the job. The model holds its cache as a state, which is
cleared before each request and grows with it. Of a prompt the logits of the last token alone are computed. Tokens are
chosen in numpy (kasoku_sampling.py). What it computes in is asked for by the session's dtype; a CPU that lacks that
computes in another, which is among `incomparable`. All else is the library's choice, such as the type of the cache, and
activations that are rounded to 8 bits where the weights are.

Options:
  properties  of the compiled model, such as {"KV_CACHE_PRECISION": "u8"}; these win, and null leaves one of ours out
"""

from __future__ import annotations

from kasoku_converted import conversion_facts, converted_folder
from kasoku_engine import Engine, Request, Scores, UnsupportedError, peak_rss_bytes
from kasoku_numpy_scores import scores_of_rows
from kasoku_openvino_graph import LOGITS, ROWS, Ran, constant_bytes, cut_to_rows
from kasoku_openvino_telemetry import without_telemetry
from kasoku_sampling import Sampling, margin_of

OPTIONS = ("properties",)
FILE = "openvino_model.xml"
HINTS = {"bfloat16": "bf16", "float16": "f16", "float32": "f32"}
SHOWN = (
    "INFERENCE_PRECISION_HINT",
    "KV_CACHE_PRECISION",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE",
    "INFERENCE_NUM_THREADS",
    "NUM_STREAMS",
    "PERFORMANCE_HINT",
    "ENABLE_CPU_PINNING",
    "EXECUTION_DEVICES",
)
INPUTS = ("input_ids", "attention_mask", "position_ids", "beam_idx", ROWS)


class OpenVinoEngine(Engine):
    """One compiled model, one request of its, and the loop over `infer`."""

    def import_packages(self, job: dict) -> None:  # noqa: ARG002
        without_telemetry()
        import numpy
        import openvino

        self.openvino, self.numpy = openvino, numpy

    def load(self, job: dict) -> dict:
        options = dict(job.get("options") or {})
        for name in options:
            if name not in OPTIONS:
                raise UnsupportedError("The openvino engine has no option %r; it has %s." % (name, ", ".join(OPTIONS)))
        if job.get("device") != "cpu":
            raise UnsupportedError("The openvino engine runs on the CPU, and not on NVIDIA's GPUs.")
        self.job, self.sampling = job, Sampling(job)
        folder = converted_folder(job)
        core = self.openvino.Core()
        try:
            model = core.read_model(str(folder / FILE))
        except RuntimeError as error:
            raise UnsupportedError("OpenVINO cannot read %s in %s." % (FILE, folder)) from error
        self.is_cut = cut_to_rows(model)
        self.wanted = [port.get_any_name() for port in model.inputs]
        for name in self.wanted:
            if name not in INPUTS:
                raise UnsupportedError("The model in OpenVINO's form wants %r, which this engine cannot give." % name)
        properties = self._properties(dict(options.get("properties") or {}))
        self.compiled = core.compile_model(model, "CPU", properties)
        self.request = self.compiled.create_infer_request()
        self.resolved = {name: self._property(name) for name in SHOWN}
        self._reserve(max(len(prompt) for prompt in job["prompts"]) + job["sampling"]["max_new_tokens"])
        self._clear()
        return {
            "weights_bytes": constant_bytes(model),
            "dtype": self._hinted(),
            "device": "cpu",
            "threads": self._threads(),
            "versions": {"openvino": self.openvino.get_version().split("-")[0]},
            "resolved": {
                "sampling": self.sampling.as_resolved(),
                "properties": self.resolved,
                "processor": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
                "processor_computes_in": list(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
                "logits_of_prompt": "last" if self.is_cut else "all",
                "conversion": conversion_facts(folder),
            },
        }

    def generate(self, request: Request, emit: object) -> str | None:
        stops, last = frozenset(request.stop_token_ids), request.max_new_tokens - 1
        self._clear()
        self.sampling.begin(request.seed, request.prompt_ids)
        logits = self._step(request.prompt_ids)[-1]
        for step in range(request.max_new_tokens):
            token = self.sampling.choose(logits)
            emit([token])
            if token in stops:
                return "eos"
            if step < last:
                logits = self._step([token])[-1]
        return "length"

    def generate_bare(self, request: Request) -> list:
        ids: list = []
        self.generate(request, ids.extend)
        return ids

    def cached_prompt_tokens(self) -> int | None:
        return 0  # the state is cleared before every request

    def timed_ends(self) -> None:
        self.peak_rss_bytes = peak_rss_bytes()

    def evidence(self) -> dict:
        ran = Ran(self.compiled)
        return {
            "attention_ops": [name for name in sorted(ran.attention_kernels) if " " in name],
            "attention_kernels": ran.attention_kernels,
            "product_kernels": ran.product_kernels,
            "weight_types": ran.weight_types,
            "weight_bytes_read": ran.weight_bytes,
            "dtype": ran.dtype,
            "kv_types": ran.kv_types,
            "cache": "dynamic",
            "wrapper": None,
            "converted_modules": 0,
            "compiled_frames": 0,
            "recompiles_timed": 0,
            "cached_prompt_tokens": 0,
            "threads": self._threads(),
            "sampling": self.sampling.as_resolved(),
            "properties": self.resolved,
            "incomparable": self._incomparable(ran),
            "token_reads": self._token_reads(ran),
            "cuda_graphs": None,
            "missing": {"cuda_graphs": "This device has no CUDA graphs."},
        }

    def greedy(self, prompt_ids: list) -> dict:
        stops = frozenset(self.sampling.stop_token_ids)
        ids: list = []
        margins: list = []
        self._clear()
        logits = self._step(prompt_ids)[-1]
        while True:
            ids.append(int(logits.argmax()))
            margins.append(margin_of(logits))
            if len(ids) == self.sampling.max_new_tokens or ids[-1] in stops:
                return {"ids": ids, "margins": margins}
            logits = self._step(ids[-1:])[-1]

    def score_prefill(self, ids: list, scored: int) -> Scores:
        self._clear()
        return scores_of_rows(self._step(ids[:-1], scored)[-scored:], ids[-scored:])

    def score_decode(self, ids: list, scored: int) -> Scores:
        self._clear()
        rows = [self._step(ids[:-scored])[-1].copy()]
        rows += [self._step([token])[-1].copy() for token in ids[-scored:-1]]
        return scores_of_rows(self.numpy.stack(rows), ids[-scored:])

    def memory(self) -> dict:
        reason = "OpenVINO keeps no peak; see peak_rss_bytes."
        missing = dict.fromkeys(("peak_allocated_bytes", "peak_reserved_bytes"), reason)
        missing["kv_reserved_bytes"] = "OpenVINO's KV cache grows with the response."
        return {"peak_rss_bytes": self.peak_rss_bytes, **dict.fromkeys(missing), "missing": missing}

    def close(self) -> None:
        del self.request, self.compiled

    def _properties(self, more: dict) -> dict:
        ours = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": HINTS[self.job["dtype"]],
            "INFERENCE_NUM_THREADS": self.job.get("threads"),
            **more,
        }
        return {name: value for name, value in ours.items() if value is not None}

    def _property(self, name: str) -> object:
        try:
            value = self.compiled.get_property(name)
        except RuntimeError:
            return None
        if isinstance(value, self.openvino.Type):
            return value.get_type_name()
        if isinstance(value, (list, tuple)):
            return [str(each) for each in value]
        return value if isinstance(value, (bool, int, float)) else str(value)

    def _threads(self) -> int | None:
        threads = self.resolved["INFERENCE_NUM_THREADS"]
        return threads if isinstance(threads, int) else None

    def _hinted(self) -> str:
        """What the compiled model says that it computes in."""
        hint = self.resolved["INFERENCE_PRECISION_HINT"]
        return next((dtype for dtype, name in HINTS.items() if name == hint), str(hint))

    def _incomparable(self, ran: Ran) -> list:
        """How this departs from the session's settings: in what was computed in, as the kernels that ran say."""
        wanted = self.job["dtype"]
        return ["%s instead of %s" % (ran.dtype, wanted)] if ran.dtype not in (wanted, None) else []

    def _token_reads(self, ran: Ran) -> dict | None:
        """What a decoding step reads (kasoku_token_reads.py has the form); None where the cache's type is unknown."""
        state = self.request.query_state()
        if len(ran.kv_types) != 1 or any(len(each.state.shape) != 4 for each in state):
            return None
        width = {"f32": 4, "u8": 1, "i8": 1}.get(ran.kv_types[0], 2)
        position = sum(each.state.shape[1] * each.state.shape[3] for each in state) * width
        return {"weights_bytes": sum(ran.weight_bytes.values()), "cache": [[1, position, 0, None]]}

    def _reserve(self, tokens: int) -> None:
        """Inputs for as many tokens, of which each step takes a part."""
        numpy = self.numpy
        self.mask = numpy.ones((1, tokens), numpy.int64)
        self.positions = numpy.arange(tokens, dtype=numpy.int64)[None]
        self.first_beam = numpy.zeros(1, numpy.int32)

    def _clear(self) -> None:
        self.request.reset_state()
        self.length = 0

    def _step(self, ids: list, rows: int = 1) -> object:
        """The logits after the last `rows` of the ids, and maybe more before (rows × vocabulary), as a view that the
        next step overwrites."""
        numpy, begin = self.numpy, self.length
        end = begin + len(ids)
        if end > self.mask.shape[1]:
            self._reserve(end)
        given = {
            "input_ids": numpy.asarray([ids], numpy.int64),
            "attention_mask": self.mask[:, :end],
            "position_ids": self.positions[:, begin:end],
            "beam_idx": self.first_beam,
            ROWS: numpy.asarray([-rows], numpy.int64),
        }
        inputs = {name: given[name] for name in self.wanted}
        self.request.infer(inputs, share_inputs=True, share_outputs=True)
        self.length = end
        return self.request.get_tensor(LOGITS).data[0]


ENGINE = OpenVinoEngine
