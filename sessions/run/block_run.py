"""Running one block: its job is written, its runner started under a warden, its messages journalled."""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

import methods
from methods.base.home import private_folder, write_atomically
from methods.base.interpreter import Interpreter
from methods.base.log_tail import log_tail
from methods.base.warded_process import ProcessEnd, WardedProcess
from methods.base.warden import end_containers
from methods.catalogue.evidence import judge
from methods.catalogue.method import KEY_FROM, SERVER
from sessions.device.affinity import shared_out, starting_on
from sessions.disk.messages import PHASES
from sessions.disk.option_table import table
from sessions.disk.plan import Plan, PlannedBlock, PlannedMethod
from sessions.disk.records import AnyRecord, BlockEnded, EvidenceTaken, Note, Prepared, ReferenceScored
from sessions.disk.session_folder import SessionFolder
from sessions.run.block_requests import planned_parts, requests_of_job
from sessions.run.known_evidence import ELSEWHERE, Known
from sessions.run.reference_cache import fidelity_job
from sessions.run.requests_in_flight import RequestsInFlight
from sessions.run.runner_variables import runner_variables
from sessions.run.short_folder import short_folder
from sessions.run.wardens import Wardens
from sessions.run.wire import LINE_LIMIT_BYTES, WireTranslator, too_much
from sessions.run.wire_lie import WireLieError

RUNNER: Final = Path(methods.__file__).parent / "runner"
TICK_S: Final = 0.1
REJECTED_LIMIT: Final = 1000  # invalid lines, before a runner counts as broken
DETAIL_LENGTH: Final = 20_000
LAST_WORD_S: Final = 10.0  # for a runner that has said all, or closed its wire, to end
NOT_MESSAGES: Final = "invalid lines"
LINGERED: Final = "did not exit on its own"
TIME_WAS_UP: Final = "cut by the time allowed"
NONE_WHOLE: Final = "The time allowed was up before a response of this block was complete."
CUT_SHORT: Final = "evidence cut short"
CONTAINER_LEFT: Final = "container left"
SPARED: Final = ("failed", "oom", "stalled")  # what does not take away a block that was measured before it happened
AFTER_EVIDENCE: Final = PHASES[PHASES.index("fidelity") :]
LIE: Final = "lie: "
REFUSED: Final = "refused: "  # and the sentence of the block
UNKNOWN: Final = Known()


@dataclass(frozen=True, slots=True)
class BlockEnd:
    """How a block ended; `requests` counts those that ended, warm-ups among them."""

    status: str
    error: str
    requests: int


def job_of(
    plan: Plan,
    method: PlannedMethod,
    block: PlannedBlock,
    prepared: Prepared,
    known: Known = UNKNOWN,
    fidelity: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """The runner's job: what it needs to know, nothing more."""
    interpreter = prepared.interpreters[method.name]
    return {
        "schema": 1,
        "job": "measure",
        "engine": method.engine,
        "options": method.options,
        "paths": list(interpreter.paths),
        "repair": interpreter.repair(),
        "model_folder": str(prepared.model.folder),
        "converted_folder": prepared.converted.get(method.name),
        "quantisation": prepared.model.quantisation,
        "context_length": prepared.model.context_length,
        "device": "cpu" if plan.device == "cpu" else "cuda",
        "gpu_uuids": plan.gpu_uuids[plan.gpus_of(method.name, block.block)],
        "split": method.split,
        "prompts": prepared.prompts,
        **requests_of_job(plan, block),
        "load_deadline_s": plan.deadlines.load_s,
        "token_deadline_s": plan.deadlines.token_s,
        "prompt_text": prepared.prompt_text,
        "prompt_template": prepared.prompt_template,
        **{option.name: option.of(plan) for option in table(type(plan)) if option.job},
        "sampling": msgspec.to_builtins(plan.sampling) | {"stop_token_ids": prepared.stop_token_ids},
        **known.of_job(),
        "fidelity": fidelity and {**fidelity, "scored": known.scored},
    }


class BlockRun:
    """Runs one block. `append` takes records; `every_tick`, called ten times a second, says why to stop (stop, skip,
    REFUSED and why), or "".

    `changes` are put into the runner's job; `known` is what the method's earlier blocks have shown; with a `reference`
    the block's fidelity is scored. At `ends_ns` measuring is over: a response that is under way then is cut. It runs on
    the `cores` of its lane, None: on all that are the runner's.
    """

    def __init__(
        self,
        folder: SessionFolder,
        plan: Plan,
        block: PlannedBlock,
        prepared: Prepared,
        append: Callable[[AnyRecord], None],
        every_tick: Callable[[], str],
        cache: Path,
        clock: Callable[[], int] = time.perf_counter_ns,
        changes: Mapping[str, object] | None = None,
        known: Known = UNKNOWN,
        reference: ReferenceScored | None = None,
        ends_ns: int | None = None,
        wardens: Wardens | None = None,
        cores: frozenset[int] | None = None,
    ) -> None:
        self._folder, self._plan, self._block, self._prepared = folder, plan, block, prepared
        self._method = plan.method(block.method)
        self._append, self._every_tick, self._clock = append, every_tick, clock
        self._cache, self._changes, self._known = cache, dict(changes or {}), known
        self._reference = reference if reference is not None and reference.windows else None
        self._ends_ns, self._last_word_ns = ends_ns, 0
        self._log = folder.log(block.method, block.block)
        self._wardens, self.warden_pid = wardens or Wardens(), 0
        self._cores = shared_out().runner if cores is None else cores

    def carry_out(self, started: Callable[[int | None], None]) -> BlockEnd:
        """Until the runner and all it started are gone; `started` hears its process id, and None when it is over."""
        with short_folder() as sockets:
            return self._carried_out(started, sockets)

    def _carried_out(self, started: Callable[[int | None], None], sockets: Path | None) -> BlockEnd:
        interpreter = self._prepared.interpreters[self._method.name]
        job = self._log.with_suffix(".json")
        fidelity = fidelity_job(self._reference, self._cache) if self._reference is not None else None
        told = job_of(self._plan, self._method, self._block, self._prepared, self._known, fidelity) | self._changes
        if self._ends_ns is not None:
            told |= {"ends_ns": self._ends_ns, "greedy": False}
        told["private_folder"] = None if sockets is None else str(sockets)
        write_atomically(job, msgspec.json.encode(told))
        self._last_word_ns = begun_ns = self._clock()
        with self._wardens.undisturbed(), starting_on(self._cores):
            process = WardedProcess(
                [str(interpreter.python), "-I", str(RUNNER), str(job), WardedProcess.WIRE],
                self._log,
                self._variables(interpreter, sockets),
                cwd=private_folder(self._log.parent),
                line_limit=LINE_LIMIT_BYTES,
                removed=sockets,
            )
            self.warden_pid = process.warden_pid
            self._wardens.add(process.warden_pid)
        translator = WireTranslator(
            self._block.method,
            self._block.block,
            planned_parts(self._plan, self._block),
            begun_ns,
            [len(prompt) for prompt in self._prepared.prompts],
            [window.scored for window in self._reference.windows] if self._reference is not None else [],
            load=self._plan.has_load,
            ends_ns=self._ends_ns,
        )
        why = ""
        try:
            why = self._attend(process, translator, started)
            if (last := self._every_tick()).startswith(REFUSED):  # also of a runner that was done before a tick
                why = last
        finally:
            started(None)
            end = process.close()
            self._wardens.end(process.warden_pid)  # which leaves its orphans to this process, a subreaper too
            left = [*end.containers_left, *(end_containers(str(sockets)) if sockets is not None else ())]
        status, error = self._judge(why, translator, end, process)
        if self._spares(status, translator) and not why.startswith((LIE, REFUSED)):
            self._note(CUT_SHORT, f"all its requests had ended before this: {error}")
            status, error = "ok", ""
        if status == "ok" and self._ends_ns is not None and not translator.requests.over_as_planned:
            status, error = self._cut_by_time(translator.requests)
        if translator.error is not None:
            self._keep(translator.error.detail)
        if count := translator.rejected + process.oversized_lines:
            self._note(NOT_MESSAGES, f"its runner sent {count} invalid lines.")
        for command in left:
            self._note(CONTAINER_LEFT, f"its container could not be ended and may still run: `{command}` ends it.")
        if why == "lingers":
            self._note(LINGERED, "its runner was complete but did not exit, so it was killed.")
        self._append(
            BlockEnded(
                t=self._clock(),
                method=self._block.method,
                block=self._block.block,
                status=status,
                error=error,
                log_tail=log_tail(self._log) if status != "ok" else [],
                left_behind=end.left_behind,
                void=why.startswith((LIE, REFUSED)),
            )
        )
        return BlockEnd(status, error, translator.finished_requests)

    def _variables(self, interpreter: Interpreter, sockets: Path | None) -> dict[str, str]:
        """The runner's, of which the one that holds a server's key is that server's own runner's alone."""
        environ = {name: value for name, value in os.environ.items() if name != self._plan.server_key}
        gpus = self._plan.gpus_of(self._method.name, self._block.block)
        return runner_variables(environ, self._plan, interpreter, self._cache, sockets, gpus) | self._key()

    def _key(self) -> dict[str, str]:
        """The variable with the key of a server that runs already, which its own runner alone is to have."""
        name = self._method.options.get(KEY_FROM) if self._method.engine == SERVER else None
        return {name: os.environ[name]} if isinstance(name, str) and name in os.environ else {}

    def _cut_by_time(self, requests: RequestsInFlight) -> tuple[str, str]:
        """What the block counts for, whose time was up before it was over, and why; what it lacks is noted."""
        cut = "a response was cut and does not count" if requests.cut else ""
        never = f"{requests.to_go} of its responses did not begin" if requests.to_go else ""
        lacking = "; ".join(filter(None, (cut, never)))
        self._note(TIME_WAS_UP, f"the time allowed was up: {lacking}.")
        return ("ok", "") if requests.whole else ("stopped", NONE_WHOLE)

    @staticmethod
    def _spares(status: str, translator: WireTranslator) -> bool:
        """Whether what ended the block takes nothing away from what it measured: a stop, none of what it showed."""
        spared = status in SPARED or (status == "stopped" and translator.phase in AFTER_EVIDENCE)
        return spared and translator.measured

    def _keep(self, detail: str) -> None:
        """Append a failure's traceback to the end of the log."""
        with contextlib.suppress(OSError), self._log.open("ab") as log:
            log.write(detail[-DETAIL_LENGTH:].encode(errors="replace") + b"\n")

    def _note(self, flag: str, said: str) -> None:
        method, block = self._block.method, self._block.block
        text = f"{method}, block {block}: {said}"
        self._append(Note(t=self._clock(), text=text, flag=flag, method=method, block=block))

    def _attend(self, process: WardedProcess, translator: WireTranslator, started: Callable[[int | None], None]) -> str:
        """Serve the wire until the runner exits ("") or there is a reason to kill it."""
        told = False
        with selectors.DefaultSelector() as selector:
            selector.register(process.wire_descriptor, selectors.EVENT_READ)
            selector.register(process.report_descriptor, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in selector.select(TICK_S)}
                if process.wire_descriptor in ready:
                    if lie := self._take(process, translator):
                        return lie
                    if process.wire_ended:
                        selector.unregister(process.wire_descriptor)
                process.look_after()
                if process.pid is not None and not told:
                    started(process.pid)
                    told = True
                if process.end is not None:
                    return self._drain(process, translator)
                if why := self._every_tick() or self._silence(process, translator):
                    return why

    def _silence(self, process: WardedProcess, translator: WireTranslator) -> str:
        """The reason to kill a runner that has been silent for too long, or ""."""
        if not self._silent_for(self._deadline_s(process, translator)):
            return ""
        if lie := self._take(process, translator):  # it may be this process that slept, with words waiting
            return lie
        if not self._silent_for(self._deadline_s(process, translator)):
            return ""
        return "lingers" if translator.done else "wire" if process.wire_ended else "stalled"

    def _silent_for(self, seconds: float) -> bool:
        return self._clock() - self._last_word_ns > seconds * 1e9

    def _deadline_s(self, process: WardedProcess, translator: WireTranslator) -> float:
        if translator.done or process.wire_ended:
            return min(LAST_WORD_S, self._plan.deadlines.token_s)
        return self._plan.deadlines.token_s if translator.phase == "timed" else self._plan.deadlines.load_s

    def _drain(self, process: WardedProcess, translator: WireTranslator) -> str:
        """What the pipe still holds was said before the end."""
        if process.end == ProcessEnd():  # the warden was killed: its orphans, who may hold the wire, are ours now
            self._wardens.end(process.warden_pid)
        deadline = self._clock() + int(LAST_WORD_S * 1e9)
        while not process.wire_ended and self._clock() < deadline:
            select.select([process.wire_descriptor], [], [], TICK_S)
            if lie := self._take(process, translator):
                return lie
        return ""

    def _take(self, process: WardedProcess, translator: WireTranslator) -> str:
        for line in process.lines():
            if not line:
                continue
            rejected = translator.rejected
            try:
                record = translator.take(line, self._clock())
            except WireLieError as lie:
                return f"{LIE}{lie}"
            if translator.rejected == rejected:
                self._last_word_ns = self._clock()
            if isinstance(record, EvidenceTaken):
                record = self._judged(record)
            if record is not None:
                self._append(record)
        if translator.rejected + process.oversized_lines > REJECTED_LIMIT:
            return f"{LIE}it sends invalid lines"
        return ""

    def _judged(self, taken: EvidenceTaken) -> EvidenceTaken:
        whole = self._known.complete(taken)
        if too_much(whole.evidence):
            whole = taken
        judged = judge(self._method.must_show, whole.evidence)
        reason = judged.reason
        if whole.profiled_block is not None:
            reason = f"{reason.rstrip('.')} ({ELSEWHERE})."
        return msgspec.structs.replace(whole, in_effect=judged.in_effect, reason=reason)

    def _judge(self, why: str, translator: WireTranslator, end: ProcessEnd, process: WardedProcess) -> tuple[str, str]:
        """The block's status and the sentence that goes with it."""
        said = translator.error
        if why == "stop":
            return "stopped", "Stopped by request."
        if why == "skip":
            return "stopped", "Skipped by request."
        if why == "stalled":
            limit = self._deadline_s(process, translator)
            return (
                "stalled",
                f"No message from the runner for {limit:g} s in phase {translator.phase or 'start'!r}: killed.",
            )
        if why.startswith(REFUSED):
            return "failed", why.removeprefix(REFUSED)
        if why.startswith(LIE):
            return "failed", f"The runner contradicts itself: {why.removeprefix(LIE)}."
        if said is not None:
            status = {"oom": "oom", "unsupported": "unavailable"}.get(said.kind, "failed")
            return status, said.message[:500]
        if end.signal == 9 and end.oom_kills:
            return "oom", "The kernel killed the runner because the machine ran out of memory."
        if translator.done and (end.exit == 0 or why == "lingers"):
            return "ok", ""
        if why == "wire" and end.signal == 9:
            return "failed", "The runner closed its wire before it was done, so it was killed."
        if end.refused:
            return "failed", f"The runner {end.sentence()}."
        if end.exit == 127 and translator.hello is None:
            return "failed", "The method's interpreter cannot be started: see the log, and `kasoku env list`."
        if process.pid is None:
            return "failed", "The warden was killed before it could start the runner."
        return "failed", f"The runner {end.sentence()} in the phase {translator.phase or 'start'!r}."
