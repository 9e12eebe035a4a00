# mypy: ignore-errors
# It runs in the runner, where mypy does not go.
"""A user's engine, standard library only, that generates at a given rate and misbehaves where its options say so.

rate       tokens/s (default 500); each token is emitted at its own due time
as_due     true: each is stamped with the moment at which it was due, however late it is (default false)
step       the next id is the last one plus this, within the prompt's vocabulary of 64 (default 1)
fault      what goes wrong, a name in FAULTS (default: nothing does)
at         where: load | request (default) | evidence | profile | greedy | close; of a load: warm-up | point
profile    true: it has a profile, which says which process made it, and a greedy pass
request    in which request (default 0, the first timed one)
after      after how many tokens of it (default 2)
serves     true: it serves many requests at once, each at that rate
point      the name of the point of a load in which the fault happens, in its first warm-up or timed request (default
           each point)
once       a file: the fault happens only while it is not there, and makes it
crowd      a folder, in which each token leaves a trace: those who left one within the last 50 ms share the rate
pids       a file that gets the ids of processes this engine leaves behind, one a line

The variable SCRIPTED_IMPORT_S says how long importing it takes, in seconds (default 0), SCRIPTED_VERSION what version
it reports (default 1).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from kasoku_engine import Engine, UnsupportedError

time.sleep(float(os.environ.get("SCRIPTED_IMPORT_S", "0")))

VOCABULARY = 64
# A title, the alternate screen, a question that the terminal answers, one-byte CSI, and rich's markup.
ESCAPES = "\x1b]0;owned\x07 \x1b[?1049h \x1b[6n \x9b6n \r\x08 [blink]markup[/blink]"
LONG_LINE_BYTES = 100 << 20
CROWD_S = 0.05


def wire() -> int:
    return int(sys.argv[2])


def write_raw(data: bytes) -> None:
    """Straight onto the wire, past the runner's own writer."""
    view = memoryview(data)
    while view:
        select.select([], [wire()], [])
        try:
            view = view[os.write(wire(), view[:65_536]) :]
        except BlockingIOError:
            continue


def say(**message: object) -> None:
    write_raw(json.dumps(message).encode() + b"\n")


def sleep_for_ever() -> None:
    while True:
        time.sleep(60)


# What can go wrong. Each takes the engine and the request under way (None outside of one).


def exception(engine: Scripted, _request: object) -> None:
    print(f"about to fail {ESCAPES}", file=sys.stderr)
    raise ValueError(f"scripted failure {ESCAPES}")


def unsupported(_engine: Scripted, _request: object) -> None:
    raise UnsupportedError("This engine does not do that.")


def leave(_engine: Scripted, _request: object) -> None:
    os._exit(7)


def segfault(_engine: Scripted, _request: object) -> None:
    print("about to read address 0", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def memory_error(_engine: Scripted, _request: object) -> None:
    raise MemoryError


def grow(_engine: Scripted, _request: object) -> None:
    """Allocate until the kernel refuses."""
    limit = 1 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    kept = []
    while True:
        kept.append(bytes(64 << 20))  # which touches no page: a busy machine takes seconds for a gigabyte of them


def hang(_engine: Scripted, _request: object) -> None:
    print("about to hang", file=sys.stderr, flush=True)
    sleep_for_ever()


def fork_away(engine: Scripted, _request: object) -> None:
    """A sleeper two forks away, in a process session of its own, deaf to all that can be ignored."""
    waiting, noted = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            engine.note_pid(os.getpid())
            os.write(noted, b"1")
            sleep_for_ever()
        os._exit(0)
    os.read(waiting, 1)  # it could be ended before it has said who it is
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    engine.note_pid(child.pid)


def flood_wire(engine: Scripted, request: object) -> None:
    write_raw(b'{"k":"weather","t":1,"sky":"grey"}\n' * 5_000)
    hang(engine, request)  # or the response may be whole before the flood is read


def flood_log(_engine: Scripted, _request: object) -> None:
    for number in range(20_000):
        print(f"line {number} of a talkative engine {ESCAPES}")
    sys.stdout.flush()


def long_line(_engine: Scripted, _request: object) -> None:
    chunk = b"x" * (1 << 20)
    for _ in range(LONG_LINE_BYTES // len(chunk)):
        write_raw(chunk)
    write_raw(b"\n")


def rubbish(_engine: Scripted, _request: object) -> None:
    write_raw(bytes(range(256)) * 64 + b"\n{\n[]\nnull\n\xff\xfe\n" + b"[" * 5_000 + b"\n")


def unknown_kinds(_engine: Scripted, _request: object) -> None:
    for kind in ("weather", "", None, 7, "TOKENS"):
        say(k=kind, t=time.perf_counter_ns(), request=0)


def backwards(engine: Scripted, request: object) -> None:
    say(k="tokens", request=request.number, index=engine.sent, times=[time.perf_counter_ns() - 10**12], ids=[1])


def future(engine: Scripted, request: object) -> None:
    say(k="tokens", request=request.number, index=engine.sent, times=[time.perf_counter_ns() + 10**12], ids=[1])


def negative(engine: Scripted, request: object) -> None:
    say(k="tokens", request=request.number, index=engine.sent, times=[-5], ids=[1])


def wrong_count(engine: Scripted, request: object) -> None:
    say(k="request_end", t=time.perf_counter_ns(), request=request.number, finish="length", output_tokens=10**6)


def too_many(engine: Scripted, request: object) -> None:
    while True:
        engine.emit([1])
        time.sleep(0.002)


def negative_memory(_engine: Scripted, _request: object) -> None:
    say(k="memory", t=time.perf_counter_ns(), peak_rss_bytes=-1)


def done_early(_engine: Scripted, _request: object) -> None:
    say(k="done", t=time.perf_counter_ns())
    sleep_for_ever()


def closes_wire(_engine: Scripted, _request: object) -> None:
    os.close(wire())
    sleep_for_ever()


def lingers(_engine: Scripted, _request: object) -> None:
    """Says that it is done, and then does not end."""
    os._exit = lambda _status: sleep_for_ever()


FAULTS = {
    function.__name__: function
    for function in (
        exception, unsupported, leave, segfault, memory_error, grow, hang, fork_away, flood_wire, flood_log, long_line,
        rubbish, unknown_kinds, backwards, future, negative, wrong_count, too_many, negative_memory, done_early,
        closes_wire, lingers,
    )
}  # fmt: skip


class Kept(list):
    """Takes ids as a stream does and hands none of them out."""

    def __call__(self, ids: list) -> None:
        self.extend(ids)

    def flush(self) -> None:
        pass


class Scripted(Engine):
    """Counts up from the last prompt id, one token at a time."""

    def load(self, job: dict) -> dict:
        self.options = job["options"]
        self.sent = 0
        self.break_at("load")
        return {
            "weights_bytes": 0,
            "dtype": job["dtype"],
            "device": "cpu",
            "threads": 1,
            "versions": {"scripted": os.environ.get("SCRIPTED_VERSION", "1")},
            "resolved": {
                "folder": job["model_folder"],
                "modules": sorted({name.partition(".")[0] for name in sys.modules}),
                "path": sys.path,
                "variables": sorted(os.environ),
            },
        }

    def generate(self, request: object, emit: object) -> str:
        self.emit = emit
        pause = 1.0 / self.options.get("rate", 500.0)
        token_id = request.prompt_ids[-1] % VOCABULARY
        due = time.perf_counter()
        if self.options.get("as_due"):
            emit._clock = lambda: round(due * 1e9)
        for number in range(request.max_new_tokens):
            self.sent = number
            if request.number == self.options.get("request", 0) and number == self.options.get("after", 2):
                emit.flush()
                self.break_at("request", request)
            due += pause * self.crowd()
            time.sleep(max(0.0, due - time.perf_counter()))
            token_id = (token_id + self.options.get("step", 1)) % VOCABULARY
            emit([token_id])
        return "length"

    def crowd(self) -> int:
        """How many are at work, this one included."""
        if "crowd" not in self.options:
            return 1
        folder = Path(self.options["crowd"])
        (folder / str(os.getpid())).write_bytes(b"")
        return sum(time.time() - trace.stat().st_mtime < CROWD_S for trace in folder.iterdir())

    def cannot_serve(self, point: object) -> str:
        return "" if self.options.get("serves") and not point.depth else super().cannot_serve(point)

    def serve(self, load: object) -> None:
        faulty = self.options.get("point", load.point.name) == load.point.name
        if not self.options.get("serves"):
            super().serve(load)
            return
        pause = 1.0 / self.options.get("rate", 500.0)
        going = {}
        while not load.over:
            for request in load.take():
                going[request.number] = [request, request.prompt_ids[-1] % VOCABULARY, 0, time.perf_counter()]
                if faulty:
                    self.break_at("warm-up" if request.warmup else "point", request)
            if not going:
                time.sleep(load.wait_s() or 0.0)
                continue
            next_due = min(due for _, _, _, due in going.values()) + pause
            time.sleep(max(0.0, next_due - time.perf_counter()))
            for entry in list(going.values()):
                request, token_id, count, due = entry
                if due + pause <= time.perf_counter():
                    entry[1:] = [(token_id + self.options.get("step", 1)) % VOCABULARY, count + 1, due + pause]
                    load.emit(request, [entry[1]])
                    if count + 1 == request.max_new_tokens:
                        del going[request.number]
                        load.end(request)

    def generate_bare(self, request: object) -> list:
        kept = Kept()
        self.generate(request, kept)
        return kept

    def evidence(self) -> dict:
        self.break_at("evidence")
        return {"cache": "dynamic", "attention_ops": None, "missing": {"attention_ops": "It has no attention."}}

    def profile(self) -> dict:
        self.break_at("profile")
        return {"profiled_by": os.getpid()} if self.options.get("profile") else {}

    def greedy(self, prompt_ids: list) -> dict:
        if not self.options.get("profile"):
            return super().greedy(prompt_ids)
        self.break_at("greedy")
        return {"ids": [1, 2], "margins": [0.5, 0.5]}

    def close(self) -> None:
        self.break_at("close")

    def break_at(self, place: str, request: object = None) -> None:
        fault = self.options.get("fault")
        if fault is None or self.options.get("at", "request") != place:
            return
        once = self.options.get("once")
        if once is not None:
            if Path(once).exists():
                return
            Path(once).touch()
        FAULTS[fault](self, request)

    def note_pid(self, pid: int) -> None:
        if "pids" in self.options:
            with open(self.options["pids"], "a") as file:  # noqa: PTH123
                file.write(f"{pid}\n")


ENGINE = Scripted
