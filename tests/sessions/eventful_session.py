"""A session to which everything happens that decides what counts: a real folder and journal, a scripted measurement.

Of three blocks a method: one block of `breaks` fails after whole requests, one of `two` has a request that errs and one
that is stopped, the conductor dies in the last block of `one`, and a resume runs that one again. `absent` cannot run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from methods.base.interpreter import Unavailable
from probes.machine import Machine
from sessions.close.session_end import close_session
from sessions.disk.journal import JournalWriter
from sessions.disk.plan import Plan, PlannedMethod
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Energy,
    EvidenceTaken,
    Header,
    Loaded,
    MachineSeen,
    Memory,
    Prepared,
    RequestEnded,
    RequestStarted,
    SessionEnded,
    Telemetry,
    Tokens,
)
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import SessionFolder, create
from tests.made_model import made_model

MS = 1_000_000
GIB = 1 << 30
GPUS = ("gpu0", "gpu1")
RATES = {"one": 100.0, "two": 150.0, "breaks": 220.0}  # tokens/s of the first block; each later one is a little faster
PLAN = Plan(
    methods=[
        PlannedMethod(name=name, engine="e", environment="t", reference=None if name == "one" else "one")
        for name in (*RATES, "absent")
    ],
    requests=12,
    warmup=1,
    blocks=3,
    device="0,1",
    gpu_sources=list(GPUS),
    sampling=Sampling(max_new_tokens=8),
)


class Script:
    """The records of one journal, each with its time."""

    def __init__(self, session: str) -> None:
        self.session = session
        self.now = 10**12
        self.joules = 5000.0
        self.position = 0

    def header(self, resumed: bool = False) -> Iterator[AnyRecord]:
        yield Header(t=self.now, schema_version=1, session=self.session, realtime_ns=10**18, resumed=resumed)
        yield MachineSeen(t=self.now, machine=Machine(), software={}, gpus=list(GPUS), idle_w=80.0)
        yield Prepared(
            t=self.now,
            model=made_model(),
            prompts=[[1, 2, 3]],
            prompt_text=None,
            prompt_template=False,
            stop_token_ids=[],
            interpreters={},
            unavailable={"absent": Unavailable("no such package", "install it")},
        )

    def tick(self, *used_gib: float) -> Iterator[AnyRecord]:
        """A tenth of a second and one reading of the memory of each GPU."""
        self.now += 100 * MS
        self.joules += 12.5
        yield Telemetry(
            t=self.now,
            rows=[
                (gpu, "memory_used_bytes", "bytes", used * GIB, self.now, 4.0, "ok")
                for gpu, used in zip(GPUS, used_gib, strict=True)
            ],
        )

    def block(
        self,
        method: str,
        block: int,
        *,
        finishes: Sequence[str] = ("length",) * 4,
        status: str = "ok",
        peaks: Sequence[tuple[float, float]] = ((4.0, 2.0), (3.0, 5.0)),
        in_effect: bool = True,
        counter: bool = True,
        ended: bool = True,
    ) -> Iterator[AnyRecord]:
        """A block whose timed requests finish so; without `ended` nothing more is heard of it after them."""
        self.position += 1
        yield BlockStarted(t=self.now, method=method, block=block, position=self.position, of=12)
        yield BlockPhase(t=self.now, method=method, block=block, phase="import")
        yield from self.tick(3.5, 1.0)  # the process before it is still there
        yield from self.tick(1.0, 1.0)
        yield BlockPhase(t=self.now, method=method, block=block, phase="load")
        yield from self.tick(2.0, 2.0)
        yield Loaded(t=self.now, method=method, block=block, load_s=1.0 + block / 8)
        yield BlockPhase(t=self.now, method=method, block=block, phase="warmup")
        yield from self.request(method, block, -1, 20.0, "length")
        yield BlockPhase(t=self.now, method=method, block=block, phase="timed")
        yield from self.energy(method, block, "timed_start", counter)
        for place, finish in enumerate(finishes):
            rate = RATES[method] * (1 + block / 50 + place / 100)
            yield from self.request(method, block, 4 * block + place, rate, finish)
            yield from self.tick(*peaks[place % len(peaks)])
        if not ended:
            return
        yield from self.energy(method, block, "timed_end", counter)
        yield BlockPhase(t=self.now, method=method, block=block, phase="evidence")
        reason = "the kernel was seen" if in_effect else "no kernel was seen"
        yield EvidenceTaken(t=self.now, method=method, block=block, evidence={}, in_effect=in_effect, reason=reason)
        yield Memory(t=self.now, method=method, block=block, peak_rss_bytes=(4 + block) * GIB)
        self.now += MS
        error = "" if status == "ok" else "the engine gave up"
        yield BlockEnded(t=self.now, method=method, block=block, status=status, error=error)

    def energy(self, method: str, block: int, edge: str, told: bool) -> Iterator[AnyRecord]:
        # the timed part's first is stamped so that parts shorter than a second have an energy here, too
        t = self.now - (1000 * MS if edge == "timed_start" else 0)
        yield Energy(t=t, method=method, block=block, edge=edge, energy_j=self.joules if told else None)

    def request(self, method: str, block: int, number: int, rate: float, finish: str) -> Iterator[AnyRecord]:
        gap = round(1e9 / rate)
        yield RequestStarted(t=self.now, method=method, block=block, request=number, warmup=number < 0, prompt_tokens=3)
        times = [self.now + gap * (place + 1) for place in range(8 if finish != "error" else 3)]
        for begin in range(0, len(times), 5):
            part = times[begin : begin + 5]
            yield Tokens(
                t=part[-1],
                method=method,
                block=block,
                request=number,
                index=begin,
                times=part,
                ids=list(range(len(part))),
            )
        self.now = times[-1] + MS
        yield RequestEnded(
            t=self.now, method=method, block=block, request=number, finish=finish, output_tokens=len(times)
        )


def eventful_records(session: str) -> Iterator[AnyRecord]:
    """All the journal's records in their order."""
    script = Script(session)
    yield from script.header()
    yield BlockEnded(t=script.now, method="absent", block=0, status="unavailable", error="no such package")
    yield from script.block("one", 0)
    yield from script.block("two", 0, finishes=("length", "error", "stopped", "eos"))
    yield from script.block("breaks", 0)
    yield from script.block("one", 1, peaks=((2.0, 6.0), (9.0, 2.0)))
    yield from script.block("two", 1, in_effect=False)
    yield from script.block("breaks", 1, finishes=("length", "length", "error"), status="failed", peaks=((20.0, 20.0),))
    yield from script.block("two", 2)
    yield from script.block("one", 2, finishes=("length",), peaks=((40.0, 40.0),), ended=False)
    script.now += 60_000 * MS
    yield from script.header(resumed=True)
    yield from script.block("one", 2)
    yield from script.block("breaks", 2, counter=False)
    yield SessionEnded(t=script.now, status="finished")


def write_eventful(home: Path, records: Callable[[str], Iterator[AnyRecord]] = eventful_records) -> SessionFolder:
    """The session's folder under `home`, its frames written."""
    folder, lock = create(home / "sessions", PLAN)
    journal = JournalWriter(folder.path)
    for record in records(folder.id):
        journal.append(record)
    journal.close()
    close_session(folder, "finished")
    os.close(lock)
    return folder
