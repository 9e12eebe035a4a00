"""What an engine is to the runner: code that loads a model and generates token ids.

An engine file is one module with `ENGINE`, a subclass of `Engine`. It imports its packages inside its methods, so that
the runner can say which of them is missing. The calls come in this order, all on the main thread:

    import_packages(job)                     phase import
    load(job)                                phase load
    prepare(request), generate(request, emit)   phase warmup, for each warm-up
    timed_begins()
    prepare(request), generate(request, emit)   phase timed, for each timed request
    timed_ends()
    evidence(), profile(), memory()          phase evidence; profile where no earlier block's stands for this one
    greedy(prompt_ids)                       phase greedy, where the job asks for it
    score_prefill(ids, scored), score_decode(ids, scored)   phase fidelity, for each window, where the job asks for it
    close()                                  phase close

Where a load is asked for, `cannot_serve(point)` is asked of each of its points, and the requests come by

    serve(load)                              phase warmup, for the warm-ups of each point
    timed_begins()
    reset(), serve(load)                     phase timed, for each point
    timed_ends()

Whatever fails after the last timed request is missing with its reason, and the block stands.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from pathlib import Path

from kasoku_failure import UnsupportedError

__all__ = [
    "Engine",
    "Request",
    "Scores",
    "UnsupportedError",
    "first_seed",
    "longest",
    "most_in_flight",
    "peak_rss_bytes",
    "take_engine",
]

OPEN_LOOP = 256  # requests for which there is room at once; the others wait in the engine


class Request:
    """One response to generate: `prompt_ids` (list of int), `max_new_tokens`, `stop_token_ids` (empty: a fixed length),
    `seed`, `number` and `warmup`. How to sample is the job's, the same for every request. The first `depth` of the
    prompt's ids are in the cache before it begins. `cached_prompt_tokens` and `speculated` are for `serve` to set: as
    what the engine's methods of those names return.
    """

    __slots__ = (
        "cached_prompt_tokens",
        "depth",
        "max_new_tokens",
        "number",
        "place",
        "prompt_ids",
        "prompt_index",
        "seed",
        "speculated",
        "stop_token_ids",
        "warmup",
    )

    def __init__(self, job: dict, entry: dict) -> None:
        sampling = job["sampling"]
        self.number = entry["request"]
        self.warmup = bool(entry.get("warmup", False))
        self.prompt_index = entry.get("prompt_index", 0)
        self.prompt_ids = list(job["prompts"][self.prompt_index])
        self.seed = entry.get("seed", job.get("seed", 0))
        self.max_new_tokens = entry.get("max_new_tokens", sampling["max_new_tokens"])
        self.place, self.depth = entry.get("place", 0), entry.get("depth", 0)
        self.cached_prompt_tokens: int | None = None
        self.speculated: dict = {}
        self.stop_token_ids = list(sampling.get("stop_token_ids") or ())


class Scores:
    """What a model says of ids that it was given, each from all before it: `nll`, a list of float, the negative natural
    logarithm of its probability; `top1`, a list of int, the id with the highest logit in its place; `log_probs`, numpy
    float32 [ids, vocabulary] of natural-log probabilities, or None where the engine hands out no full logits.

    All are the model's own, before any temperature, penalty or choice among the likeliest.
    """

    __slots__ = ("log_probs", "nll", "top1")

    def __init__(self, nll: list, top1: list, log_probs: object = None) -> None:
        self.nll, self.top1, self.log_probs = nll, top1, log_probs


class Engine:
    """The base of every engine. Facts and columns an engine cannot know are None, with a reason under `missing`.

    What `load`, `evidence` and `memory` return is sent as it is. The fields of the messages `loaded` and `memory` are
    declared in sessions/disk/messages.py; unknown fields are ignored.
    """

    begins_with_a_cache = False
    """Whether `prepare` computes the first `request.depth` ids of a prompt, so that `generate` goes on from there."""

    def import_packages(self, job: dict) -> None:
        """Import what the engine needs; timed apart from loading."""

    def load(self, job: dict) -> dict:
        """Load the model in `job["model_folder"]`; return what was resolved, whatever was requested: the fields
        of `loaded`, less `t` and `load_s`.
        """
        raise NotImplementedError

    def prepare(self, request: Request) -> None:
        """Work needed before a request but not part of it, such as seeding. Not timed."""

    def generate(self, request: Request, emit: object) -> str | None:
        """Generate one response: call `emit([id, ...])` as soon as new IDs (never the prompt's) are in host memory.

        Returns `length`, `eos`, or None to derive it from the number of tokens.
        """
        raise NotImplementedError

    def generate_bare(self, request: Request) -> list:  # noqa: ARG002
        """The same response, all IDs at once when the last is in host memory: the loop without any streaming.

        `kasoku calibrate` compares streaming with it.
        """
        raise UnsupportedError("this engine has no loop without streaming")

    def cannot_serve(self, point: object) -> str:
        """Why the engine cannot serve the requests of a point (kasoku_load.Point), in one sentence; "" where it can.

        With `generate` alone it serves one at a time, which an open loop may come to, too.
        """
        if point.depth and not self.begins_with_a_cache:
            return "This engine cannot begin with tokens in its cache."
        if not point.rate and point.most > 1:
            return "This engine generates one response at a time."
        return ""

    def reset(self) -> None:
        """Between two points: let go of what is cached of earlier requests."""

    def serve(self, load: object) -> None:
        """Serve requests until `load.over` (kasoku_load.Load), all on the caller's thread.

        `load.take()` gives those that begin now, to be worked on at once; `load.wait_s()` says how long it may be until
        the next. As soon as ids are in host memory: `load.emit(request, ids)`; once a response is whole:
        `load.end(request, finish)`. Whatever is raised ends the point, and the next one begins with `reset`. This one
        takes one request after another to `generate`.
        """
        while not load.over:
            self.prepare(load.coming()[0])
            while load.wait_s():
                time.sleep(load.wait_s())
            for request in load.take(1):
                finish = self.generate(request, load.stream_of(request))
                request.cached_prompt_tokens, request.speculated = self.cached_prompt_tokens(), self.speculated()
                load.end(request, finish)

    def cached_prompt_tokens(self) -> int | None:
        """How many of the last request's prompt tokens were reused from earlier requests; None: unknown."""
        return None

    def speculated(self) -> dict:
        """What speculation did for the last request: `decode_steps` of the model, each of which gave one token besides
        the `accepted_tokens` of the `drafted_tokens` that it checked. {} where nothing is drafted, or it is not known.
        """
        return {}

    def timed_begins(self) -> None:
        """Warm-up is over. Take the snapshots that evidence needs."""

    def timed_ends(self) -> None:
        """The last timed request is over, and nothing else has run yet: read peaks and counters here."""

    def evidence(self) -> dict:
        """The evidence that the method was in effect. May generate again: timing is over."""
        return {}

    def profile(self) -> dict:
        """More evidence, which takes a profiler or much time: left out in a block whose `evidence` is an earlier one's.

        Its facts then stand for both blocks.
        """
        return {}

    def greedy(self, prompt_ids: list) -> dict:  # noqa: ARG002
        """One greedy response without penalties, of the timed length, by the code that was timed.

        Returns `ids`, and `margins`: for each of them the best logit minus the second best (or None). Not timed.
        """
        raise UnsupportedError("this engine makes no greedy pass")

    def score_prefill(self, ids: list, scored: int) -> Scores:  # noqa: ARG002
        """The scores of the last `scored` of `ids`, with all positions at once, as a prompt is read. Not timed."""
        raise UnsupportedError("this engine scores no prompt")

    def score_decode(self, ids: list, scored: int) -> Scores:  # noqa: ARG002
        """The same, one id at a time: what comes before them is the prompt, and each is forced as the next token
        through the very step that was timed. No `ids` are longer than a timed request, nor is `scored` more than its
        new tokens. Not timed.
        """
        raise UnsupportedError("this engine forces no ids through its decode step")

    def memory(self) -> dict:
        """The fields of `memory`, less `t`. This one knows how much was resident, and no more."""
        return unread_memory("This engine does not report it.")

    def close(self) -> None:
        """Release the model and end what was started."""


def most_in_flight(job: dict) -> int:
    """The most requests that the job may have in flight at once; in an open loop all of a point's, up to OPEN_LOOP."""
    most = [1]
    for point in job.get("points") or ():
        own = sum(entry["place"] == point["place"] for entry in job["requests"])
        most.append(point.get("batch") or point.get("concurrency") or (min(own, OPEN_LOOP) if point.get("rate") else 1))
    return max(most)


def longest(job: dict) -> int:
    """Tokens of the longest request, its prompt and what is generated; one of them may be a greedy pass."""
    most = job["sampling"]["max_new_tokens"]
    whole = [
        len(job["prompts"][entry.get("prompt_index", 0)]) + entry.get("max_new_tokens", most)
        for entry in job["requests"]
    ]
    return max([len(job["prompts"][0]) + most, *whole])


def first_seed(job: dict) -> int:
    """The seed of the first timed request, where an engine has one for all, drawn from in the order of the requests."""
    timed = [entry for entry in job["requests"] if not entry.get("warmup")]
    return int((timed or job["requests"])[0].get("seed", job.get("seed", 0)))


def unread_memory(reason: str) -> dict:
    """The fields of `memory` where nothing is known but how much was resident, and why."""
    columns = ("peak_allocated_bytes", "peak_reserved_bytes", "kv_reserved_bytes")
    return {**dict.fromkeys(columns), "peak_rss_bytes": peak_rss_bytes(), "missing": dict.fromkeys(columns, reason)}


def peak_rss_bytes() -> int:
    """Peak resident memory of this process, or of any one child that has exited, in bytes."""
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    try:
        # Unlike ru_maxrss, VmHWM does not remember the process that this one was forked from.
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return max(int(line.split()[1]) * 1024, children)
    except OSError:
        pass
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, children)


def take_engine(name: str) -> Engine:
    """An engine by the name of a file kasoku_engines/kasoku_<name>.py, or by the absolute path of a user's file.

    Raises UnsupportedError if there is no such engine; exceptions from importing the file pass through.
    """
    if os.path.isabs(name):  # noqa: PTH117
        path = Path(name)
        if not os.path.isfile(path):
            raise UnsupportedError("No such engine file: %s." % name)
        module_name = "kasoku_engine_of_user_" + "".join(c if c.isalnum() else "_" for c in path.stem)
        specification = importlib.util.spec_from_file_location(module_name, path)
        if specification is None or specification.loader is None:
            raise UnsupportedError("The engine file %s is not a Python file; its name must end in .py." % name)
        module = importlib.util.module_from_spec(specification)
        sys.modules[module_name] = module
        specification.loader.exec_module(module)
    else:
        if not os.path.isfile(Path(__file__).parent / "kasoku_engines" / ("kasoku_%s.py" % name)):
            raise UnsupportedError("This runner has no engine %r." % name)
        module = importlib.import_module("kasoku_engines.kasoku_" + name)
    engine = getattr(module, "ENGINE", None)
    if engine is None:
        raise UnsupportedError("The engine %s has no ENGINE: write ENGINE = YourClass at its end." % name)
    return engine()
