"""Sessions written for the tests of the screens and for benchmarks/watching.py: real folders, real journals.

The records are those of a conductor; only what was "measured" is scripted: four methods at about 500 tokens/s with
10 Hz telemetry of two GPUs and the host.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from probes.gpu.facts import GpuFacts
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
    Phase,
    Prepared,
    RequestEnded,
    RequestStarted,
    SessionEnded,
    Telemetry,
    Tokens,
)
from sessions.disk.sampling import Sampling
from sessions.disk.session_folder import SessionFolder, create, new_id
from tests.made_model import NOWHERE, made_model

MS = 1_000_000
START_NS = 1_000_000_000_000
CREATED_NS = 1_772_000_000_000_000_000
METHODS = ("baseline", "torch-compile-wrapper", "flash-attention-2", "torch-compile")
SPEEDS = {"baseline": 380.0, "torch-compile-wrapper": 378.0, "flash-attention-2": 460.0, "torch-compile": 640.0}
WORDS = (
    "The river runs past the old mill, and the children count boats in the evening light. "
    "それでは、近くの公園まで散歩に行ってみましょう。 "
    "Nothing here was in a hurry; even the swallows turned slowly over the water. "
)
MACHINE = Machine(
    hostname="bench",
    os="Debian GNU/Linux 12",
    kernel="Linux 6.8.0",
    architecture="x86_64",
    cpu_model="AMD EPYC 9654 96-Core Processor",
    cores_physical=96,
    cores_logical=192,
    ram_total_bytes=1_622_000_000_000,
    gpu_driver="580.95.05",
    cuda_driver="13.0",
    gpus=tuple(
        GpuFacts(source=f"gpu{gpu}", uuid=f"GPU-{gpu}", name="NVIDIA H200", memory_total_bytes=150_754_820_096)
        for gpu in range(2)
    ),
    missing={"rapl": "unavailable: needs root"},
)


def make_plan(methods: tuple[str, ...] = METHODS, requests: int = 6, blocks: int = 3, tokens: int = 64) -> Plan:
    """A plan whose methods all refer to the first."""
    return Plan(
        preset="quick",
        model="smollm2-135m",
        methods=[
            PlannedMethod(
                name=name,
                engine="transformers",
                environment="torch",
                summary=f"What {name} does.",
                reference=None if place == 0 else methods[0],
                differs="" if place == 0 else name,
            )
            for place, name in enumerate(methods)
        ],
        requests=requests,
        warmup=1,
        blocks=blocks,
        seed=7,
        prompt="How far is the park?",
        sampling=Sampling(max_new_tokens=tokens),
        device="0,1",
        gpu_uuids=["GPU-0", "GPU-1"],
    )


def telemetry_rows(t: int, load: float, gpus: int = 2) -> list[tuple[str, str, str, float | None, int, float, str]]:
    """One tick of the sampler; `load` is 0 to 1."""
    wave = math.sin(t / 1e9)
    rows: list[tuple[str, str, str, float | None, int, float, str]] = []
    for gpu in range(gpus):
        used = load if gpu == 0 else 0.1 * load
        for metric, unit, value in (
            ("utilisation_percent", "percent", round(98 * used + wave)),
            ("memory_used_bytes", "bytes", 1.2e9 + 3.0e9 * used),
            ("memory_reserved_bytes", "bytes", 0.6e9),
            ("memory_total_bytes", "bytes", 150_754_820_096),
            ("power_w", "watt", 90 + 240 * used + 6 * wave),
            ("power_limit_w", "watt", 700),
            ("sm_clock_mhz", "megahertz", 345 + 1635 * round(used)),
            ("temperature_c", "celsius", round(31 + 12 * used)),
            ("throttle_reasons", "bitmask", 0 if used else 1),
        ):
            rows.append((f"gpu{gpu}", metric, unit, max(0.0, float(value)), t, 4.0, "ok"))
    for source, metric, unit, value in (
        ("host", "cpu_percent", "percent", 4 + 8 * load + wave),
        ("host", "ram_used_bytes", "bytes", 61e9 + 2e9 * load),
        ("host", "ram_total_bytes", "bytes", 1_622e9),
        ("host", "load_1m", "processes", 1.4),
        ("host", "cpu_mhz", "megahertz", 3550),
        ("runner", "rss_bytes", "bytes", 2.1e9 * load),
        ("runner", "cpu_percent", "percent", 100 * load),
    ):
        rows.append((source, metric, unit, max(0.0, float(value)), t, 9.0, "ok"))
    return rows


class Script:
    """The records of one session in order, each with its time, as a conductor would write them while it runs."""

    def __init__(
        self,
        plan: Plan,
        session: str,
        model_folder: str = "",
        ids: list[int] | None = None,
        start_ns: int = START_NS,
        speeds: Mapping[str, float] = SPEEDS,
        greedy: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`greedy`: each method's greedy pass, as its first block leaves it in the evidence."""
        self.plan = plan
        self.session = session
        self.model_folder = Path(model_folder) if model_folder else NOWHERE
        self.ids = ids or list(range(500, 900))
        self.now = start_ns
        self._speeds = speeds
        self._greedy = greedy or {}
        self._random = random.Random(3)  # noqa: S311 - a script, not a secret
        self._tick = start_ns
        self._energy = 1000.0

    def records(self, ended: bool = True) -> Iterator[AnyRecord]:
        """All records; without `ended` those up to the middle of the last block's last request."""
        yield Header(t=self.now, schema_version=1, session=self.session, realtime_ns=CREATED_NS)
        yield from self._prepare()
        order = self.plan.order()
        for position, planned in enumerate(order, 1):
            last = position == len(order)
            yield from self._block(planned.method, planned.block, planned.requests, position, not (last and not ended))
        if ended:
            yield SessionEnded(t=self.now, status="finished")

    def _pass(self, ns: int, load: float) -> Iterator[AnyRecord]:
        """Let time go by; the sampler ticks."""
        self.now += ns
        self._energy += ns / 1e9 * sum(row[3] or 0.0 for row in telemetry_rows(self.now, load) if row[1] == "power_w")
        while self._tick < self.now:
            yield Telemetry(t=self._tick, rows=telemetry_rows(self._tick, load))
            self._tick += 100 * MS

    def _prepare(self) -> Iterator[AnyRecord]:
        for name in ("environment torch", "model smollm2-135m", "prompt"):
            yield Phase(t=self.now, name=name, state="started")
            yield from self._pass(200 * MS, 0.0)
            yield Phase(t=self.now, name=name, state="ended", detail="ready")
        yield MachineSeen(
            t=self.now,
            machine=MACHINE,
            software={"kasoku": "0.1.0", "python": "3.11"},
            gpus=["gpu0", "gpu1"],
            idle_w=88.0,
        )
        yield Prepared(
            t=self.now,
            model=made_model(name=self.plan.model, weights_bytes=269_000_000, folder=self.model_folder),
            prompts=[[1, 2, 3, 4]],
            prompt_text=self.plan.prompt,
            prompt_template=False,
            stop_token_ids=[2],
            interpreters={},
            unavailable={},
        )

    def _block(self, method: str, block: int, requests: list[int], position: int, whole: bool) -> Iterator[AnyRecord]:
        at: dict[str, Any] = {"method": method, "block": block}
        yield BlockStarted(t=self.now, position=position, of=len(self.plan.order()), environment="torch", **at)
        yield Energy(t=self.now, edge="start", energy_j=self._energy, **at)
        for phase, spent in (("import", 300), ("load", 700)):
            yield BlockPhase(t=self.now, phase=phase, **at)
            yield from self._pass(spent * MS, 0.3)
        yield Loaded(
            t=self.now, load_s=0.7, weights_bytes=269_000_000, dtype="bfloat16", device="cuda", threads=1, **at
        )
        numbers = [*range(-self.plan.warmup, 0), *requests]
        for number in numbers:
            if number in (numbers[0], requests[0]):
                yield BlockPhase(t=self.now, phase="warmup" if number < 0 else "timed", **at)
            if number == requests[0]:
                # stamped so that parts shorter than a second have an energy here, too
                yield Energy(t=self.now - 1000 * MS, edge="timed_start", energy_j=self._energy, **at)
            stop_early = not whole and number == numbers[-1]
            yield from self._request(method, block, number, stop_early)
            if stop_early:
                return
        yield Energy(t=self.now, edge="timed_end", energy_j=self._energy, **at)
        yield BlockPhase(t=self.now, phase="evidence", **at)
        yield from self._pass(200 * MS, 0.4)
        on = method != "torch-compile-wrapper"
        said = {"greedy": dict(self._greedy[method])} if method in self._greedy and block == 0 else {}
        yield EvidenceTaken(
            t=self.now,
            evidence={"attention_ops": ["aten::_scaled_dot_product_flash_attention"], "compiled_frames": 0, **said},
            in_effect=on,
            reason="the flash kernel was seen" if on else "0 compiled frames",
            **at,
        )
        yield Memory(t=self.now, peak_allocated_bytes=2_700_000_000, peak_rss_bytes=2_100_000_000, **at)
        yield BlockPhase(t=self.now, phase="close", **at)
        yield Energy(t=self.now, edge="end", energy_j=self._energy, **at)
        yield BlockEnded(t=self.now, status="ok", log_tail=[f"{method} ended"], **at)

    def _request(self, method: str, block: int, number: int, stop_early: bool) -> Iterator[AnyRecord]:
        at: dict[str, Any] = {"method": method, "block": block, "request": number}
        yield RequestStarted(t=self.now, warmup=number < 0, prompt_tokens=4, **at)
        gap = int(1e9 / (self._speeds[method] * self._random.uniform(0.98, 1.02)))
        count = self.plan.sampling.max_new_tokens
        times = [self.now + gap * 3 + gap * place for place in range(count)]
        index = 0
        while index < (count // 2 if stop_early else count):
            edge = times[index] + 50 * MS
            end = next((place for place in range(index, count) if times[place] > edge), count)
            yield from self._pass(times[end - 1] - self.now, 1.0)
            ids: list[int | None] = [self.ids[place % len(self.ids)] for place in range(index, end)]
            yield Tokens(t=self.now, index=index, times=times[index:end], ids=ids, **at)
            index = end
        if not stop_early:
            yield from self._pass(1 * MS, 1.0)
            yield RequestEnded(t=self.now, finish="length", output_tokens=count, **at)


def write_session(
    home: Path,
    plan: Plan | None = None,
    *,
    ended: bool = True,
    name: str = "",
    status: str | None = None,
    session: str | None = None,
    machine: Machine = MACHINE,
    written: type[Script] = Script,
    **script: Any,
) -> SessionFolder:
    """A session's folder under `home` with its journal, as if its conductor had ended (or died, where not `ended`)."""
    plan = plan or make_plan()
    with patch("sessions.disk.session_folder.new_id", return_value=session or new_id()):
        folder, lock = create(home / "sessions", plan)
    journal = JournalWriter(folder.path)
    for record in written(plan, folder.id, **script).records(ended):
        journal.append(record)
    journal.close()
    if ended:
        close_session(folder, status or "finished")
    file = folder.read()
    folder.write(
        msgspec.structs.replace(
            file,
            created_ns=CREATED_NS,
            ended_ns=CREATED_NS + 22_000_000_000 if ended else None,
            status=status or ("finished" if ended else "running"),
            name=name,
            machine=machine,
            software={"kasoku": "0.1.0", "python": "3.11"},
        )
    )
    os.close(lock)
    return folder


def make_tokeniser(folder: Path) -> list[int]:
    """A small tokenizer.json in `folder`, and the ids of some text in its terms."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder.mkdir(parents=True, exist_ok=True)
    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokeniser.train_from_iterator([WORDS], trainer)
    tokeniser.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return list(tokeniser.encode(WORDS * 3).ids)
