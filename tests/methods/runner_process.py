"""Start a real runner, hold the reading end of its wire, and collect what it says."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

import methods
from methods.base.interpreter import Interpreter
from methods.catalogue import evidence
from methods.catalogue.catalogue import load_catalogue
from sessions.disk.messages import ManyMessage
from sessions.run import packed_tokens

RUNNER = Path(methods.__file__).parent / "runner"
DEADLINE_S = 300.0

Message = Mapping[str, object]


def unpacked(line: Message) -> list[tuple[int, int, list[int], list[int | None]]]:
    """Request, index, times and ids of each request in a line of many."""
    tokens = packed_tokens.unpacked(msgspec.convert({**line}, ManyMessage))
    return [(each.request, each.index, each.times, each.ids) for each in tokens]


@dataclass
class Running:
    """A runner at work: its process, the reading end of its wire and its log."""

    process: subprocess.Popen[bytes]
    wire: int
    log: Path

    def read_to_the_end(self, deadline_s: float = DEADLINE_S) -> bytes:
        """All that comes until the runner closes the wire. Fails the test when the deadline passes."""
        deadline = time.monotonic() + deadline_s
        parts: list[bytes] = []
        while True:
            ready, _, _ = select.select([self.wire], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the runner said nothing more within {deadline_s} s; its log:\n{self.log.read_text()}"
            part = os.read(self.wire, 65_536)
            if not part:
                return b"".join(parts)
            parts.append(part)


@dataclass(frozen=True)
class Outcome:
    """What a runner said, how it ended and what it printed."""

    messages: tuple[Message, ...]
    status: int
    log: str

    def of(self, kind: str) -> list[Message]:
        """The messages of one kind, in order."""
        return [message for message in self.messages if message["k"] == kind]

    def one(self, kind: str) -> Message:
        """The only message of a kind."""
        found = self.of(kind)
        assert len(found) == 1, f"{len(found)} lines {kind!r}; the log:\n{self.log}"
        return found[0]

    def tokens(self, request: int) -> tuple[list[int], list[int]]:
        """(times, ids) of one request, checked to be gapless."""
        times: list[int] = []
        ids: list[int] = []
        for line in self.of("tokens"):
            if line["request"] == request:
                assert line["index"] == len(ids)
                times += line["times"]  # type: ignore[arg-type]
                ids += line["ids"]  # type: ignore[arg-type]
        for line in self.of("many"):
            for number, index, came, those in unpacked(line):
                if number == request:
                    assert index == len(ids)
                    times += came
                    ids += those  # type: ignore[arg-type]
        return times, ids

    def most_in_flight(self) -> int:
        """How many timed requests were in flight at once, by the order of the wire's lines."""
        now = most = 0
        timed = {line["request"] for line in self.of("request") if not line["warmup"]}
        for line in self.messages:
            if line.get("request") in timed and line["k"] in ("request", "request_end"):
                now += 1 if line["k"] == "request" else -1
                most = max(most, now)
        return most


@contextmanager
def runner(
    python: Path, job: Mapping[str, object], folder: Path, environ: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """A runner on `job`, killed at the end if it still lives. `environ` is added to this process's own."""
    job_file = folder / "job.json"
    job_file.write_text(json.dumps({"schema": 1, **job}))
    log = folder / "runner.log"
    reading, writing = os.pipe()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), "-I", str(RUNNER), str(job_file), str(writing)],
            pass_fds=[writing],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environ or {})},
        )
    os.close(writing)
    running = Running(process, reading, log)
    try:
        yield running
    finally:
        if running.wire >= 0:
            os.close(running.wire)
        process.kill()
        process.wait()


def run(python: Path, job: Mapping[str, object], folder: Path, environ: Mapping[str, str] | None = None) -> Outcome:
    """Let a runner do `job` to its end."""
    with runner(python, job, folder, environ) as running:
        said = running.read_to_the_end()
        status = running.process.wait(DEADLINE_S)
        messages = tuple(json.loads(line) for line in said.splitlines())
        return Outcome(messages, status, running.log.read_text(errors="replace"))


def run_in(
    interpreter: Interpreter, job: Mapping[str, object], folder: Path, environ: Mapping[str, str] | None = None
) -> Outcome:
    """Let a runner do `job` in an environment: its Python, its paths, its variables."""
    with_paths = {"paths": list(interpreter.paths), **job}
    return run(interpreter.python, with_paths, folder, {**interpreter.variables, **(environ or {})})


def measure_job(engine: str, **changes: object) -> dict[str, object]:
    """A measure job with one warm-up and two timed requests of 4 tokens, but for `changes`."""
    job: dict[str, object] = {
        "job": "measure",
        "engine": engine,
        "options": {},
        "model_folder": "",
        "dtype": "bfloat16",
        "device": "cpu",
        "gpu_uuids": [],
        "threads": 2,
        "seed": 1,
        "prompts": [[504, 3575, 282, 4649, 314]],
        "requests": [
            {"request": 0, "warmup": True, "prompt_index": 0, "seed": 1},
            {"request": 1, "warmup": False, "prompt_index": 0, "seed": 2},
            {"request": 2, "warmup": False, "prompt_index": 0, "seed": 3},
        ],
        "sampling": {
            "max_new_tokens": 4,
            "stop_token_ids": [],
            "temperature": 0.0,
            "top_p": 1.0,
            "top_k": 0,
            "repetition_penalty": 1.0,
        },
        "trust_remote_code": False,
        "context_length": 8192,
    }
    return {**job, **changes}


def shown(outcome: Outcome) -> Mapping[str, object]:
    """The evidence of a runner that ended well."""
    assert outcome.status == 0, outcome.log
    found = outcome.one("evidence")["evidence"]
    assert isinstance(found, dict)
    return found


def judged(method: str, outcome: Outcome, config: Path) -> evidence.Judgement:
    """What that evidence says of a method of the catalogue."""
    return evidence.judge(load_catalogue(config).methods[method].must_show, shown(outcome))
