"""The records of a session's journal: one JSON object a line, told apart by the key `k`.

All times `t` are int nanoseconds of the host's monotonic clock (`time.perf_counter_ns`). A record of the measured side
carries the method and the block it belongs to, so that a journal can be read from any line on. What a runner said is
the message (sessions/disk/messages.py) plus that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePath

import msgspec

from methods.base.interpreter import Interpreter, Unavailable
from methods.base.memory_bandwidth import MemoryBandwidth
from methods.models.model import Model
from probes.host.surroundings import Surroundings
from probes.machine import Machine
from sessions.disk.messages import (
    EvidenceMessage,
    Int64,
    LoadedMessage,
    MemoryMessage,
    Nats,
    PhaseMessage,
    PointEndMessage,
    PointMessage,
    RequestEndMessage,
    RequestMessage,
    ScoresMessage,
    TextMessage,
    TimedLine,
    TokensMessage,
    UnscoredMessage,
)

SCHEMA_VERSION = 3  # 2: goals and looks of sessions that measure until they are decided; 3: points of a load


class BlockLine(TimedLine, frozen=True, kw_only=True):
    """What the conductor says of one block."""

    method: str
    block: Int64


class Header(TimedLine, tag="header", frozen=True, kw_only=True):
    """The first line of a journal, and again the first line of each `resume`."""

    schema_version: Int64
    session: str
    realtime_ns: Int64
    boot_id: str | None = None
    resumed: bool = False


class GoalSet(TimedLine, tag="goal", frozen=True, kw_only=True):
    """How much is measured from here on (sessions/disk/plan.py, `Goal`); `extension` counts those that changed it."""

    blocks: Int64
    until: float | None = None
    at_most: float | None = None
    since: Int64 = 0
    extension: Int64 = 0
    fidelity: bool = False


class Look(TimedLine, tag="look", frozen=True, kw_only=True):
    """What the rounds until now said, and so which methods take part in the next: those not `done`.

    `widths` are how far each interval reaches from its ratio, as a share of it.
    """

    rounds: Int64
    done: list[str]
    widths: dict[str, float]


class Phase(TimedLine, tag="phase", frozen=True, kw_only=True):
    """A step of the preparation (an environment, a model, the prompt), or waiting for the device."""

    name: str
    state: str  # started | progress | ended | failed
    detail: str = ""
    done: Int64 | None = None
    total: Int64 | None = None
    unit: str = ""


class Prepared(TimedLine, tag="prepared", frozen=True, kw_only=True):
    """What the preparation found: the model's folder and facts, the prompts' ids, an interpreter for each method.

    `converted` is the folder of the model's other form for each method that reads one. `settings_digest` is over the
    model's config.json and generation_config.json; `prompt_dated` says that its chat
    template asked for the date or the time.
    """

    model: Model
    prompts: list[list[Int64]]
    prompt_text: str | None
    prompt_template: bool
    prompt_dated: bool = False
    settings_digest: str = ""
    stop_token_ids: list[Int64]
    interpreters: dict[str, Interpreter]
    unavailable: dict[str, Unavailable]
    converted: dict[str, str] = msgspec.field(default_factory=dict)
    bandwidth: MemoryBandwidth = MemoryBandwidth()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Ids whose last `scored` are scored, each given all before it. `stratum`: `text`, or `greedy` where they are the
    reference's own greedy continuation."""

    ids: list[Int64]
    scored: Int64
    stratum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferencePath:
    """The reference's scores on one path, a list per window, a number per scored id: nats, the likeliest id, and by how
    many nats it is ahead of the next."""

    nll: list[list[Nats]]
    top1: list[list[Int64]]
    margin: list[list[Nats]]

    @property
    def sizes(self) -> list[set[int]]:
        """How many numbers each list has, by window."""
        none: list[float] = []
        return [{*map(len, lists)} for lists in zip_longest(self.nll, self.top1, self.margin, fillvalue=none)]


class ReferenceScored(TimedLine, tag="reference", frozen=True, kw_only=True):
    """The windows of fidelity and the reference's scores of them; without, where they are missing: `reason` says why.

    `key` names them in the cache, where the runner finds the reference's distributions. `environment` and `model` are
    the reference's, `quantised` how its weights are, where they are not plain.
    """

    key: str = ""
    model: str = ""
    environment: str = ""
    quantised: str | None = None
    windows: list[Window] = msgspec.field(default_factory=list)
    prefill: ReferencePath | None = None
    decode: ReferencePath | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        sizes = [{window.scored} for window in self.windows]
        if any(path is not None and path.sizes != sizes for path in (self.prefill, self.decode)):
            raise ValueError("its scores are not those of its windows")

    def of(self, path: str) -> ReferencePath | None:
        """Its scores on one of SCORED_PATHS."""
        return self.prefill if path == "prefill" else self.decode


class MachineSeen(TimedLine, tag="machine", frozen=True, kw_only=True):
    """The static capture of the machine, and the idle power of the GPUs in use before the first block."""

    machine: Machine
    software: dict[str, str]  # versions by distribution
    # telemetry sources of the GPUs that this session uses: "gpu0"
    gpus: list[str] = msgspec.field(default_factory=list)
    idle_w: float | None = None
    idle_each: list[float] = msgspec.field(default_factory=list)  # of each of `gpus`
    surroundings: Surroundings = Surroundings()


class BlockStarted(BlockLine, tag="block", frozen=True, kw_only=True):
    position: Int64
    of: Int64
    environment: str = ""
    pid: Int64 | None = None
    points: list[Int64] = msgspec.field(default_factory=list)  # their places, in their order; empty without a load


class BlockPhase(PhaseMessage, tag="block_phase", frozen=True, kw_only=True):
    method: str
    block: Int64


class Loaded(LoadedMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class PointStarted(PointMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class PointEnded(PointEndMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class RequestStarted(RequestMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class Tokens(TokensMessage, frozen=True, kw_only=True):
    """`t` is the time of the last of them."""

    t: Int64
    method: str
    block: Int64

    def __post_init__(self) -> None:
        if len(self.times) != len(self.ids):
            raise ValueError(f"{len(self.ids)} tokens with {len(self.times)} times")


class RequestTokens(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tokens of one of many requests, as a record `tokens` has them."""

    request: Int64
    index: Int64
    times: list[Int64]
    ids: list[Int64 | None]


class ManyTokens(BlockLine, tag="many", frozen=True, kw_only=True):
    """The tokens that have come of several requests in flight; `t` is the time of the last of them."""

    tokens: list[RequestTokens]

    def __post_init__(self) -> None:
        for each in self.tokens:
            if len(each.times) != len(each.ids):
                raise ValueError(f"{len(each.ids)} tokens with {len(each.times)} times")


class Text(TextMessage, frozen=True, kw_only=True):
    """`t` is the time of the last of them."""

    t: Int64
    method: str
    block: Int64

    def __post_init__(self) -> None:
        if len(self.times) != len(self.texts):
            raise ValueError(f"{len(self.texts)} pieces of text with {len(self.times)} times")


class RequestEnded(RequestEndMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class Memory(MemoryMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class EvidenceTaken(EvidenceMessage, frozen=True, kw_only=True):
    """The evidence, with what it shows about the method: in effect or not (None: unknown), and why.

    `profiled_block` is the block that the facts of the profile are from, where it is an earlier one.
    """

    method: str
    block: Int64
    in_effect: bool | None = None
    reason: str = ""
    profiled_block: Int64 | None = None


class Scores(ScoresMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class Unscored(UnscoredMessage, frozen=True, kw_only=True):
    method: str
    block: Int64


class Energy(BlockLine, tag="energy", frozen=True, kw_only=True):
    """Reading of the GPUs' energy counters (summed, joules) at an edge of a block, or of its timed part."""

    edge: str  # start | timed_start | timed_end | end
    energy_j: float | None
    reason: str = ""
    place: Int64 | None = None  # of the point whose timed part it is an edge of, where there is a load


class BlockEnded(BlockLine, tag="block_end", frozen=True, kw_only=True):
    status: str  # ok | failed | oom | stalled | stopped | unavailable
    error: str = ""
    log_tail: list[str] = msgspec.field(default_factory=list)
    left_behind: Int64 = 0  # processes the engine left, ended by the warden
    points: list[Int64] = msgspec.field(default_factory=list)  # the places of its points, where it was never begun
    void: bool = False  # nothing that was measured in it counts, whichever of its points were done


class Telemetry(TimedLine, tag="telemetry", frozen=True, kw_only=True):
    """One tick of the sampler: rows of [source, metric, unit, value or null, t_ns, call_us, status]."""

    rows: list[tuple[str, str, str, float | None, Int64, float, str]]


class SocketsSeen(BlockLine, tag="sockets", frozen=True, kw_only=True):
    """The sockets of a block's processes at one moment: addresses where they listen, some of them open `beyond`
    this machine, and the other machines that they are connected to. `reason` says what is unknown."""

    listening: list[str] = msgspec.field(default_factory=list)
    beyond: list[str] = msgspec.field(default_factory=list)
    connected: list[str] = msgspec.field(default_factory=list)
    reason: str = ""


class Note(TimedLine, tag="note", frozen=True, kw_only=True):
    """A sentence for people: something happened that makes the numbers less reliable or explains a gap."""

    text: str
    flag: str = ""
    method: str | None = None
    block: Int64 | None = None


class Asked(TimedLine, tag="asked", frozen=True, kw_only=True):
    """A viewer's request as the conductor took it: `stop`, or `skip` of one method's block."""

    action: str
    method: str | None = None
    block: Int64 | None = None


class SessionEnded(TimedLine, tag="end", frozen=True, kw_only=True):
    status: str  # finished | stopped | failed | interrupted
    error: str = ""


AnyRecord = (
    Header
    | GoalSet
    | Look
    | Phase
    | Prepared
    | ReferenceScored
    | MachineSeen
    | BlockStarted
    | BlockPhase
    | Loaded
    | PointStarted
    | PointEnded
    | RequestStarted
    | Tokens
    | ManyTokens
    | Text
    | RequestEnded
    | Memory
    | EvidenceTaken
    | Scores
    | Unscored
    | Energy
    | BlockEnded
    | Telemetry
    | SocketsSeen
    | Note
    | Asked
    | SessionEnded
)


def encode(record: AnyRecord) -> bytes:
    """A record as one line of JSON, without its end. A path is its text."""
    return _ENCODER.encode(record)


def decoder() -> msgspec.json.Decoder[AnyRecord]:
    """Of one record's JSON."""
    return msgspec.json.Decoder(AnyRecord, dec_hook=_from_json)


def _as_json(value: object) -> str:
    if isinstance(value, PurePath):
        return str(value)
    raise NotImplementedError(f"a record cannot hold a {type(value).__name__}")


def _from_json(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is object:  # in an engine's own words
        return value
    raise ValueError(f"a {type(value).__name__} is no {kind.__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_as_json)
