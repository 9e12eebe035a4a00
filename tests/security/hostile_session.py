"""A session whose every text is an attack: on the terminal, on Textual's markup, on a page, on a spreadsheet."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from methods.base.interpreter import Interpreter, Unavailable
from methods.base.memory_bandwidth import MemoryBandwidth
from probes.gpu.facts import GpuFacts
from probes.host.surroundings import Surroundings, Variable
from probes.machine import Cache, Machine
from sessions.disk import own_plans
from sessions.disk.journal import JournalWriter, read_journal
from sessions.disk.plan import Plan
from sessions.disk.records import (
    AnyRecord,
    Asked,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    EvidenceTaken,
    Header,
    Loaded,
    MachineSeen,
    Note,
    Phase,
    Prepared,
    RequestEnded,
    RequestStarted,
    SessionEnded,
    SocketsSeen,
    Telemetry,
    Tokens,
)
from sessions.disk.session_folder import FRAMES, MethodSummary, SessionFolder
from tests.sessions.workplace import make_model
from tests.tui.journals import write_session

# A title, the alternate screen, a question that the terminal answers, a one-byte CSI, a carriage return, a backspace,
# text turned round; Textual's and rich's markup; HTML; Markdown.
TERMINAL = "\x1b]0;owned\x07\x1b[?1049h\x1b[6n\x9b6n\r\x08\u202e\u061c\x7f"
MARKUP = "[blink]mark[/blink][@click=app.quit]up[/][link=http://a.b]l[/link]"
HTML = "<script>alert(1)</script><img src=http://a.b/c onerror=x>&lt;"
MARKDOWN = "![i](http://a.b/c) [l](http://a.b) <http://a.b> http://a.b ``` ~~~ | **b** # h"
HOSTILE = f"{TERMINAL}{MARKUP}{HTML}{MARKDOWN}"
FORMULAS = ("=1+1", "+1", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "'=1", "−5", "-5", "1=2")
MACHINE = Machine(
    hostname=HOSTILE,
    boot_id=HOSTILE,
    os=HOSTILE,
    kernel=HOSTILE,
    architecture=HOSTILE,
    hypervisor=HOSTILE,
    container=HOSTILE,
    cpu_model=HOSTILE,
    governor=HOSTILE,
    caches=(Cache(level=1, kind=HOSTILE, size_bytes=1, shared_by=HOSTILE),),
    rapl=HOSTILE,
    gpu_driver=HOSTILE,
    cuda_driver=HOSTILE,
    gpus=(
        GpuFacts(
            source="gpu0",
            uuid=HOSTILE,
            name=HOSTILE,
            pci_bus_id=HOSTILE,
            compute_capability=HOSTILE,
            missing={HOSTILE: HOSTILE},
            notes={HOSTILE: HOSTILE},
        ),
        GpuFacts(source=HOSTILE, name=HOSTILE),
    ),
    cuda_visible_devices=HOSTILE,
    python=HOSTILE,
    missing={HOSTILE: HOSTILE},
)
AROUND = Surroundings(
    variables=(Variable(name=HOSTILE, value=HOSTILE, environment=HOSTILE),),
    cpu_flags=(HOSTILE,),
    transparent_huge_pages=HOSTILE,
    numa_policy=HOSTILE,
    memory_nodes=HOSTILE,
    runner_cpus=HOSTILE,
    missing={HOSTILE: HOSTILE},
)
WORDS = [HOSTILE.replace(" ", "_"), *FORMULAS, "<b>bold</b>", "[red]red[/red]"]


def hostile(home: Path, session: str) -> SessionFolder:
    """The session in `home`, finished, with its journal, its frames and session.json all hostile."""
    model = make_model(home.parent / f"model{TERMINAL.replace('/', '')}", WORDS)
    folder = write_session(home, session=session, name=HOSTILE, model_folder=str(model), ids=list(range(len(WORDS))))
    poisoned = list(_poisoned(folder, str(model)))
    folder.journal.unlink()
    journal = JournalWriter(folder.path)
    for record in poisoned:
        journal.append(record)
    journal.close()
    read = folder.read()
    planned = msgspec.to_builtins(read.plan)
    # what has a choice of values is refused when it is read: tests/sessions/test_session_folder.py
    texts = {name: HOSTILE for name, value in planned.items() if isinstance(value, str) and name != "dtype"}
    method = dict.fromkeys(("engine", "environment", "summary", "reference", "differs"), HOSTILE)
    methods = [{"name": "planned-only", **method}, *planned["methods"]]
    plan = msgspec.convert(planned | texts | {"methods": methods, "command": [HOSTILE]}, Plan)
    folder.write(
        msgspec.structs.replace(
            read,
            id=HOSTILE,
            status=HOSTILE,
            error=HOSTILE,
            name=HOSTILE,
            tags=[HOSTILE],
            plan=plan,
            machine=MACHINE,
            surroundings=AROUND,
            software={HOSTILE: HOSTILE, "kasoku": HOSTILE},
            summary=[MethodSummary(method=HOSTILE, tok_s_mean=5.0, statuses=[HOSTILE])],
        )
    )
    for frame in FRAMES:
        _poison(folder, frame)
    own_plans.forget(home, session)  # as one that came from elsewhere
    for log in (folder.path / "logs" / "baseline-0.log", folder.path / "conductor.log"):
        log.write_text(f"{HOSTILE}\n" * 3)
    return folder


def _poisoned(folder: SessionFolder, model: str) -> Iterator[AnyRecord]:
    """The journal as it was, its texts replaced; and one more block, of a method that no plan knows."""
    replace = msgspec.structs.replace
    records = list(read_journal(folder.journal))
    end = records[-1].t
    for record in records:
        match record:
            case SessionEnded():
                continue
            case Phase():
                yield replace(record, name=HOSTILE, detail=HOSTILE)
            case MachineSeen():
                yield replace(
                    record, machine=MACHINE, surroundings=AROUND, software={"a": HOSTILE}, gpus=[HOSTILE, "gpu0"]
                )
            case Prepared():
                yield replace(
                    record,
                    prompt_text=HOSTILE,
                    model=dataclasses.replace(
                        record.model,
                        name=HOSTILE,
                        source=HOSTILE,
                        folder=Path(model),
                        weights_digest=HOSTILE,
                        dtype=HOSTILE,
                        architecture=HOSTILE,
                    ),
                    interpreters={
                        HOSTILE: Interpreter(HOSTILE, Path(model), (HOSTILE,), {}, "own", {HOSTILE: HOSTILE})
                    },
                    unavailable={HOSTILE: Unavailable(HOSTILE, HOSTILE)},
                    bandwidth=MemoryBandwidth(torch=HOSTILE, key=HOSTILE, reason=HOSTILE),
                )
            case EvidenceTaken():
                yield replace(record, in_effect=False, reason=HOSTILE, evidence={HOSTILE: HOSTILE})
            case Loaded():
                yield replace(record, dtype=HOSTILE, versions={HOSTILE: HOSTILE}, resolved={HOSTILE: HOSTILE})
            case BlockEnded():
                yield replace(record, error=HOSTILE, log_tail=[HOSTILE] * 3)
            case Telemetry():
                yield replace(record, rows=[(*row[:6], HOSTILE) for row in record.rows])
            case _:
                yield record
    at: dict[str, Any] = {"t": end, "method": HOSTILE, "block": 0}
    yield Note(text=f"{HOSTILE}, block 0: {HOSTILE}", flag=HOSTILE, **at)
    yield BlockStarted(position=1, of=1, environment=HOSTILE, **at)
    yield BlockPhase(phase=HOSTILE, **at)
    yield SocketsSeen(listening=[HOSTILE], beyond=[HOSTILE], connected=[HOSTILE], reason=HOSTILE, **at)
    yield RequestStarted(request=0, **at)
    yield Tokens(request=0, index=0, times=list(range(end, end + len(WORDS))), ids=list(range(len(WORDS))), **at)
    yield RequestEnded(request=0, finish=HOSTILE, output_tokens=len(WORDS), **at)
    yield BlockEnded(status=HOSTILE, error=HOSTILE, log_tail=[HOSTILE], **at)
    yield Asked(t=end, action=HOSTILE, method=HOSTILE)
    yield Header(t=end, schema_version=1, session=HOSTILE, realtime_ns=0, boot_id=HOSTILE, resumed=True)
    yield SessionEnded(t=end, status="finished", error=HOSTILE)


def _poison(folder: SessionFolder, frame: str) -> None:
    """Every text column of a frame hostile, but for the keys by which frames are joined: those in a row more."""
    table = pl.read_parquet(folder.frame(frame))
    keys = {"method", "reference", "session", "finish_reason", "status", "source", "metric"}
    texts = [name for name, kind in table.schema.items() if kind == pl.String and name not in keys]
    lists = [name for name, kind in table.schema.items() if kind == pl.List(pl.String)]
    json_columns = {"missing": {HOSTILE: HOSTILE}, "evidence": {HOSTILE: HOSTILE}, "resolved": {HOSTILE: HOSTILE},
                    "versions": {HOSTILE: HOSTILE}}  # fmt: skip
    poisoned = table.with_columns(
        *(
            pl.lit(json.dumps(json_columns[name]) if name in json_columns else HOSTILE, dtype=pl.String).alias(name)
            for name in texts
        ),
        *(pl.lit([HOSTILE, HOSTILE], dtype=pl.List(pl.String)).alias(name) for name in lists),
    )
    more = poisoned.tail(len(FORMULAS)).with_columns(
        pl.lit(HOSTILE).alias(name) for name in keys & set(table.columns) - {"session"}
    )
    whole = pl.concat([poisoned, more])
    if "text" in whole.columns:
        formulas = [FORMULAS[place % len(FORMULAS)] for place in range(len(whole))]
        whole = whole.with_columns(pl.Series("text", formulas))
    whole.write_parquet(folder.frame(frame))
