"""The job `measure`: load a model, generate warm-ups and timed requests, then report the evidence."""

from __future__ import annotations

import json
import time
import traceback

import kasoku_engine
import kasoku_failure
import kasoku_fidelity
import kasoku_points
from kasoku_failure import BrokenEnvironmentError, TimeIsUpError
from kasoku_wire import TokenStream


def run(job: dict, wire: object) -> None:
    """Run one block. The engine's exceptions reach the caller after the request they broke has ended."""
    engine = kasoku_engine.take_engine(job["engine"])
    requests = [kasoku_engine.Request(job, entry) for entry in job["requests"]]
    bare, pause_s = frozenset(job.get("bare_requests") or ()), job.get("pause_s") or 0  # of a calibration only
    ends_ns = job.get("ends_ns")  # on the clock of the wire: nothing begins after that

    wire.phase("import")
    try:
        engine.import_packages(job)
    except (ImportError, OSError) as error:
        raise BrokenEnvironmentError(error, job.get("repair") or "repair it") from error

    wire.phase("load")
    began = wire.clock()
    loaded = engine.load(job)
    loaded_at = wire.clock()
    wire.send("loaded", t=loaded_at, load_s=(loaded_at - began) / 1e9, **loaded)

    wire.phase("warmup")
    points = kasoku_points.Points(engine, job, requests, wire) if job.get("points") else None
    if points is not None:
        points.warm_up()
    else:
        for request in in_time(requests, wire, ends_ns):
            if request.warmup:
                carry_out(engine, request, wire)
    engine.timed_begins()
    wire.phase("timed")
    if points is not None:
        points.measure()
    else:
        for request in in_time(requests, wire, ends_ns):
            if not request.warmup:
                time.sleep(pause_s)
                carry_out(engine, request, wire, bare=request.number in bare)
    after = Afterwards()
    after.read("peaks", engine.timed_ends)

    wire.phase("evidence")
    evidence = {"device": job.get("device"), **(after.read("evidence", lambda: dict(engine.evidence())) or {})}
    profile: dict = {}
    if not is_as_earlier(evidence, job.get("profiled")):
        profile = after.read("profile", lambda: dict(engine.profile())) or {}
        reasons = {**(evidence.get("missing") or {}), **(profile.pop("missing", None) or {})}
        evidence.update(profile)
        evidence.update({"missing": reasons} if reasons else {})
    memory = after.read("memory", lambda: dict(engine.memory()))
    if memory is None:
        memory = kasoku_engine.unread_memory(after.missing.get("peaks") or after.missing["memory"])
    wire.send("memory", **{**memory, "t": wire.clock()})
    if job.get("greedy"):
        wire.phase("greedy")
        greedy = after.read("greedy", lambda: engine.greedy(list(job["prompts"][0])))
        evidence.update({} if greedy is None else {"greedy": greedy})
    if after.missing:
        evidence["missing"] = {**(evidence.get("missing") or {}), **after.missing}
    wire.send("evidence", t=wire.clock(), evidence=evidence, profiled=sorted(profile))

    fidelity = job.get("fidelity")
    if fidelity and not is_as_earlier(evidence, fidelity.get("scored")):
        wire.phase("fidelity")
        kasoku_fidelity.run(engine, fidelity, wire)

    wire.phase("close")
    after.read("close", engine.close)


def in_time(requests: list, wire: object, ends_ns: int | None) -> object:
    """The requests, one after another, until the time is up."""
    for request in requests:
        if ends_ns is not None and wire.clock() >= ends_ns:
            return
        yield request


def is_as_earlier(evidence: dict, earlier: dict | None) -> bool:
    """Whether this block shows what an earlier one of the method did, whose profile then stands for both."""
    if earlier is None:
        return False
    shown = json.loads(json.dumps(evidence, default=str))
    return all(name in shown and shown[name] == fact for name, fact in earlier.items())


class Afterwards:
    """What is read once the timed part is over: it is sound, so what cannot be read is missing, with its reason."""

    def __init__(self) -> None:
        self.missing: dict = {}

    def read(self, name: str, read: object) -> object:
        """What `read()` returns, if it can be sent; None, with the reason under `missing`, if not."""
        try:
            value = read()
            json.dumps(value, allow_nan=False, default=str)
            return value
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            self.missing[name] = kasoku_failure.sentence_of(error)
            return None


def carry_out(engine: kasoku_engine.Engine, request: kasoku_engine.Request, wire: object, bare: bool = False) -> None:
    """One request, from start to last token. A bare one emits nothing before that."""
    try:
        engine.prepare(request)
    except TimeIsUpError:
        return
    wire.push()
    emit = TokenStream(wire, request.number)
    wire.send(
        "request",
        t=emit.begin(),
        request=request.number,
        warmup=request.warmup,
        prompt_index=request.prompt_index,
        prompt_tokens=len(request.prompt_ids),
        batch=1,
    )
    finish = "error"
    try:
        if bare:
            finish = None
            emit(engine.generate_bare(request))
        else:
            finish = engine.generate(request, emit)
        tokens = sum(emit.counts().values())
        if tokens == 0:
            finish = "error"
            raise RuntimeError("The engine generated nothing for request %d." % request.number)
        if finish is None:
            finish = "length" if tokens >= request.max_new_tokens else "eos"
    except TimeIsUpError:
        finish = "stopped"
    finally:
        ended = wire.clock()
        try:
            emit.flush()
        except Exception:  # a device that has failed does not hand out its ids either
            finish = "error"
            raise
        finally:
            cached = engine.cached_prompt_tokens()
            speculated = {} if finish == "error" else engine.speculated()
            wire.send(
                "request_end",
                t=ended,
                request=request.number,
                finish=finish,
                output_tokens=sum(emit.counts().values()),
                **({} if cached is None else {"cached_prompt_tokens": cached}),
                **speculated,
                **({} if emit.prompt_tokens is None else {"counted_prompt_tokens": emit.prompt_tokens}),
            )
