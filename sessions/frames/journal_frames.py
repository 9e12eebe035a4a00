"""The rows of a session's frames, collected from the journal's records."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from sessions.disk.frame_schema import POINT_COLUMNS, REQUESTS, RUNS, FrameRow
from sessions.disk.plan import Plan
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
    ManyTokens,
    Memory,
    Note,
    PointEnded,
    Prepared,
    ReferenceScored,
    RequestEnded,
    RequestStarted,
    Scores,
    SocketsSeen,
    Telemetry,
    Text,
    Tokens,
    Unscored,
)
from sessions.frames.block_phases import compile_columns, phase_columns
from sessions.frames.column_builders import TelemetryBuilder, TokensBuilder
from sessions.frames.counting import block_counts
from sessions.frames.derived import RunKey
from sessions.frames.energy_edges import EnergyEdges
from sessions.frames.fidelity import FidelityRows
from sessions.frames.long_frame import CHUNK_ROWS, LongFrame
from sessions.frames.metrics import REQUEST_KEY, acceptance, joined_up, per_request, rates
from sessions.frames.point_rows import PointRows, point_columns
from sessions.frames.record_columns import column_names, columns_of
from sessions.frames.response_tokens import ResponseTokens
from sessions.frames.steady import with_steady
from sessions.frames.text_pieces import NO_IDS, TextPieces
from sessions.frames.vram import peak_vram

INTERRUPTED = "Interrupted before the block ended; `kasoku resume` runs it again."
NO_SOCKETS = "the block did not reach its warm-up, when its sockets are read"
HELD_BACK = "the server held the IDs of some tokens back"
NOT_SAID = "the engine does not say"
NO_MEMORY = "the block did not get as far as reporting it"
MEMORY = column_names(Memory, "runs")
TOLD_OF_REQUESTS = (
    *column_names(RequestStarted, "requests"),
    *column_names(RequestEnded, "requests"),
    *("attempt", "start_ns", "returned_ns", "finish_reason", "stretch", "queue_s"),
    *POINT_COLUMNS,
)


@dataclass(slots=True)
class _Run:
    """One attempt at a block, from the journal."""

    columns: FrameRow
    phases: dict[str, int] = field(default_factory=dict)
    energy: EnergyEdges = field(default_factory=EnergyEdges)
    cut_ns: int | None = None  # the last that was heard from a conductor that died in it
    missing: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    points: PointRows = field(default_factory=PointRows)


class JournalFrames:
    """Feeds on records in the journal's order, builds the frames. Tokens and readings are kept as arrays until then, or
    until they are many: then they go into `long_tokens` and `long_telemetry`.
    """

    def __init__(self, session: str, plan: Plan, long_tokens: LongFrame, long_telemetry: LongFrame) -> None:
        self._session, self._plan = session, plan
        self._runs: dict[RunKey, _Run] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        self._over: set[RunKey] = set()
        self._requests: dict[tuple[str, int, int, int], FrameRow] = {}
        self._tokens, self._telemetry, self._texts = TokensBuilder(), TelemetryBuilder(), TextPieces()
        self._long_tokens, self._long_telemetry = long_tokens, long_telemetry
        self._counted: list[pl.DataFrame] = []  # per_request of what is in long_tokens
        self._now_ns, self._headers = 0, 0
        self._broke_off: dict[tuple[str, int, int, int], str] = {}  # requests that failed alone, and why
        self._fidelity = FidelityRows()
        self.machine: MachineSeen | None = None
        self.prepared: Prepared | None = None
        self.prepared_of: dict[RunKey, Prepared] = {}

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        before_ns, self._now_ns = self._now_ns, record.t
        match record:
            case Tokens() | ManyTokens():
                self._tokens.add(record, self._attempts.get((record.method, record.block), 0))
                if self._tokens.rows >= CHUNK_ROWS:
                    self._long_tokens.put(self._taken())
            case Text():
                self._texts.add(record, self._attempts.get((record.method, record.block), 0))
            case Telemetry():
                self._telemetry.add(record, self._stretch)
                if self._telemetry.rows >= CHUNK_ROWS:
                    self._long_telemetry.put(self._telemetry.take(self._session))
            case RequestStarted():
                key = self._key(record)
                row = columns_of(record, "requests")
                row |= {"attempt": key[2], "start_ns": record.t, "stretch": self._stretch}
                row |= point_columns(self._plan, record.place, self.prepared, record.prompt_tokens)
                due_ns = row["scheduled_ns"] = record.t if record.scheduled_ns is None else record.scheduled_ns
                row["queue_s"] = (record.t - due_ns) / 1e9
                self._requests[(*key, record.request)] = row
            case RequestEnded():
                self._end_request(record)
            case BlockStarted():
                self._start_block(record)
            case BlockPhase():
                self._run(record).phases.setdefault(record.phase, record.t)
            case Loaded() | Memory():
                run, columns = self._run(record), columns_of(record, "runs")
                run.columns |= columns
                run.missing |= {name: NOT_SAID for name, value in columns.items() if value is None} | record.missing
            case EvidenceTaken():
                self._run(record).columns |= columns_of(record, "runs") | {"in_effect_reason": record.reason}
            case SocketsSeen():
                self._take_sockets(record)
            case PointEnded():
                self._run(record).points.end(record)
            case Energy():
                run = self._run(record)
                edges = run.energy if record.place is None else run.points.energy_at(record.place)
                edges.read(record)
            case BlockEnded():
                self._end_block(record)
            case Header():
                self._cut(before_ns)
                self._headers += 1
            case Note() if record.flag and record.method is not None and record.block is not None:
                cause = record.text.removeprefix(f"{record.method}, block {record.block}: ")
                self._run(record).flags.append(f"{record.flag}: {cause}")
            case Scores() | Unscored():
                self._fidelity.add(record, self._key(record))
            case ReferenceScored():
                self._fidelity.reference = record
            case Prepared():
                self.prepared = record
            case MachineSeen():
                self.machine = record
            case _:
                pass

    @property
    def _stretch(self) -> int:
        return max(0, self._headers - 1)

    def _key(self, record: Any) -> RunKey:
        method, block = record.method, record.block
        return method, block, self._attempts.get((method, block), 0)

    def _run(self, record: Any) -> _Run:
        key = self._key(record)
        if key not in self._runs:
            if self.prepared is not None:
                self.prepared_of[key] = self.prepared
            where = {"method": key[0], "block": key[1], "attempt": key[2], "stretch": self._stretch}
            self._runs[key] = _Run(where | {"started_ns": record.t})
        return self._runs[key]

    def _start_block(self, record: BlockStarted) -> None:
        place = (record.method, record.block)
        if place in self._attempts or (*place, 0) in self._runs:
            self._attempts[place] = self._attempts.get(place, 0) + 1
        else:
            self._attempts[place] = 0
        run = self._run(record)
        run.columns |= columns_of(record, "runs") | {"started_ns": record.t}
        run.points.plan(record)

    def _end_request(self, record: RequestEnded) -> None:
        key = self._key(record)
        begun = self._requests.get((*key, record.request))
        if begun is None:
            return
        begun |= columns_of(record, "requests")
        begun |= {"finish_reason": record.finish, "returned_ns": record.t}
        if record.error:
            self._broke_off[*key, record.request] = record.error
        if record.counted_prompt_tokens is not None:
            begun["prompt_tokens"] = record.counted_prompt_tokens
        if (tokens := self._texts.end(record, key[2])) is not None:
            self._tokens.add(tokens, key[2])
        if reason := self._texts.uneven((*key, record.request)):
            self._run(record).missing |= dict.fromkeys(("itl_s_p50", "itl_s_p99"), reason)

    def _end_block(self, record: BlockEnded) -> None:
        """A record for a block that has ended and was not restarted is an attempt of its own: nothing was started."""
        if self._key(record) in self._over:
            self._attempts[record.method, record.block] = self._attempts.get((record.method, record.block), 0) + 1
        run = self._run(record)
        run.columns |= columns_of(record, "runs") | {"ended_ns": record.t}
        run.points.plan(record)
        self._over.add(self._key(record))

    def _cut(self, last_ns: int) -> None:
        """A conductor that restarts ends none of the blocks that are not over: they ended unsaid."""
        for key, run in self._runs.items():
            if key not in self._over:
                run.cut_ns = last_ns
        self._over |= self._runs.keys()

    def _take_sockets(self, record: SocketsSeen) -> None:
        """What any of the checks of a block's sockets found."""
        run = self._run(record)
        said = [f"listens on {address}" for address in record.listening]
        said += [f"connected to {address}" for address in record.connected]
        run.columns["sockets"] = sorted({*run.columns.get("sockets", ()), *said})
        if record.reason:
            run.missing["sockets"] = record.reason

    def fidelity(self) -> pl.DataFrame:
        """The fidelity frame: the scored windows of each block that has some, and what has none."""
        counting = [key for key, run in self._runs.items() if block_counts(run.columns.get("status", "stopped"))]
        return self._fidelity.frame(self._session, counting)

    def _taken(self) -> pl.DataFrame:
        tokens = self._tokens.take(self._session)
        self._counted.append(per_request(tokens))
        return tokens

    def tokens(self) -> ResponseTokens:
        """The tokens, once the journal is over."""
        self._long_tokens.end(self._taken())
        return ResponseTokens(self._long_tokens.rows(), joined_up(self._counted))

    def requests(self, tokens: ResponseTokens, decode: Callable[[Sequence[int]], str] | None) -> pl.DataFrame:
        """The requests frame: what the journal tells of each request, and what follows from its tokens."""
        counted = tokens.counted
        counted = pl.concat([counted, pl.DataFrame(list(self._texts.counted()), schema=counted.schema)])
        told = {*TOLD_OF_REQUESTS}.difference(counted.columns) | {*REQUEST_KEY[:4]}
        begun = pl.DataFrame(
            list(self._requests.values()), schema={name: kind for name, kind in REQUESTS.items() if name in told}
        )
        self._requests.clear()  # a request's row is larger than its tokens
        joined = begun.join(counted, on=REQUEST_KEY[:4], how="left", maintain_order="left").with_columns(
            pl.col("sequence").fill_null(0),
            pl.col("output_tokens").fill_null(0),
            pl.col("finish_reason").fill_null("stopped"),
        )
        texts, missing = self._said(joined, tokens, decode)
        even = [not self._texts.uneven(cells) for cells in joined.select(REQUEST_KEY[:4]).iter_rows()]
        return (
            joined.with_columns(*rates("scheduled_ns"), acceptance())
            .with_columns(
                pl.when(pl.Series(even, dtype=pl.Boolean)).then(pl.col("decode_tok_s")),
                pl.lit(self._session).alias("session"),
                *(pl.lit(None, dtype=pl.Float64).alias(name) for name in ("energy_j", "itl_s_p50", "itl_s_p99")),
                pl.lit(None, dtype=pl.Int64).alias("steady_tokens"),
                pl.Series("text", texts, dtype=pl.String),
                pl.lit([], dtype=pl.List(pl.String)).alias("flags"),
                pl.Series("missing", missing, dtype=pl.String),
            )
            .pipe(with_steady)
            .select(list(REQUESTS))
            .cast(pl.Schema(REQUESTS))
        )

    def _said(
        self, joined: pl.DataFrame, tokens: ResponseTokens, decode: Callable[[Sequence[int]], str] | None
    ) -> tuple[list[str | None], list[str]]:
        said: dict[tuple[Any, ...], str | None] = {}
        if decode is not None:  # a response at a time: as Python's integers, all ids together would take gigabytes
            for own in tokens.whole_responses(("token_id",)):
                grouped = own.group_by(REQUEST_KEY, maintain_order=True).agg("token_id")
                said |= {tuple(key): None if None in ids else decode(ids) for *key, ids in grouped.iter_rows()}
        energy = "energy is read per block; per request it takes a GPU energy counter and at least 5 s"
        texts: list[str | None] = []
        reasons: list[str] = []
        for key_cells in joined.select(REQUEST_KEY).iter_rows():
            missing = {"energy_j": energy}
            if why := self._broke_off.get(key_cells[:4]):
                missing["finish_reason"] = why
            text = self._texts.text(key_cells[:4])
            if text is not None:
                said[key_cells] = text
                if self._texts.without_ids(key_cells[:4]):
                    missing["token_id"] = NO_IDS
                if reason := self._texts.uneven(key_cells[:4]):
                    missing |= dict.fromkeys(("decode_tok_s", "itl_s_p50", "itl_s_p99"), reason)
            elif decode is None:
                missing["text"] = "the model has no readable tokeniser"
            elif key_cells not in said:
                missing["text"] = "no token was generated"
            elif said[key_cells] is None:
                missing["text"] = HELD_BACK
            texts.append(said.get(key_cells))
            reasons.append(json.dumps(missing))
        return texts, reasons

    def telemetry(self) -> pl.LazyFrame:
        """The telemetry, in the order in which it was sampled, once the journal is over."""
        self._long_telemetry.end(self._telemetry.take(self._session))
        return self._long_telemetry.rows()

    def runs(self, telemetry: pl.LazyFrame) -> pl.DataFrame:
        """The runs frame: a row per point of an attempt at a block, in the order of their beginnings."""
        return pl.DataFrame(
            [
                row
                for run in sorted(self._runs.values(), key=lambda r: (r.columns["stretch"], r.columns["started_ns"]))
                for row in self._run_rows(run, telemetry)
            ],
            schema=RUNS,
        )

    def _run_rows(self, run: _Run, telemetry: pl.LazyFrame) -> list[FrameRow]:
        columns, missing = run.columns, run.missing
        planned = {method.name: method for method in self._plan.methods}.get(columns["method"])
        missing |= run.energy.missing()
        gpus = self.machine.gpus[self._plan.gpus_of(columns["method"], columns["block"])] if self.machine else []
        load_ns = run.phases.get("load")
        end_ns = columns.get("ended_ns", run.cut_ns)
        own = telemetry.filter(pl.col("stretch") == columns["stretch"])
        vram, source = peak_vram(own, gpus, columns["started_ns"], load_ns, end_ns)
        if vram is None:
            missing.setdefault("peak_vram_bytes", source)
        if columns.get("sockets") is None:
            missing.setdefault("sockets", NO_SOCKETS)
        for name in MEMORY:
            if columns.get(name) is None:
                missing.setdefault(name, NO_MEMORY)
        if columns.get("in_effect") is None:
            missing.setdefault("in_effect", columns.get("in_effect_reason") or "the block left no evidence")
        row: dict[str, object] = {"status": "stopped", "error": INTERRUPTED}
        row |= columns
        row |= {
            "session": self._session,
            "reference": planned.reference if planned else None,
            "engine": planned.engine if planned else None,
            "model": self._plan.model,
            "device": self._plan.device,
            **phase_columns(run.phases, columns["started_ns"], columns.get("ended_ns")),
            **compile_columns(columns.get("evidence")),
            "energy_j": run.energy.block_j,
            "timed_energy_j": run.energy.timed_j,
            "idle_w": _idle_w(self.machine, gpus) if self.machine else None,
            "peak_vram_bytes": vram,
            "vram_source": source if vram is not None else None,
            "flags": sorted(set(run.flags)),
            "missing": json.dumps(missing, ensure_ascii=False),
        }
        rows = run.points.rows(row, self._plan, self.prepared)
        return [{name: each.get(name) for name in RUNS} for each in rows]


def _idle_w(machine: MachineSeen, gpus: Sequence[str]) -> float | None:
    """The power of these of the session's GPUs together, before the first block."""
    if len(gpus) == len(machine.gpus):
        return machine.idle_w
    each = dict(zip(machine.gpus, machine.idle_each, strict=False))
    return sum(each[gpu] for gpu in gpus) if each.keys() >= set(gpus) else None
