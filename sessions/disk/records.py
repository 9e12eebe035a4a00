"""The records of a session's journal: one JSON object a line, told apart by the key `k`.

All times `t` are int nanoseconds of the host's monotonic clock (`time.perf_counter_ns`). A record of the measured side
carries the method and the block it belongs to, so that a journal can be read from any line on.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from probes.machine import Machine

SCHEMA_VERSION = 1

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what a frame's column can hold


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="k", omit_defaults=True, gc=False):
    """What every record has: the time it speaks of."""

    t: Int64


class Header(Record, tag="header", frozen=True, kw_only=True):
    """The first line of a journal, and again the first line of each `resume`."""

    schema_version: Int64
    session: str
    realtime_ns: Int64
    boot_id: str | None = None
    resumed: bool = False


class Phase(Record, tag="phase", frozen=True, kw_only=True):
    """A step of the preparation (an environment, a model, the prompt), or waiting for the device."""

    name: str
    state: str  # started | progress | ended | failed
    detail: str = ""
    done: Int64 | None = None
    total: Int64 | None = None
    unit: str = ""


class Prepared(Record, tag="prepared", frozen=True, kw_only=True):
    """What the preparation found: the model's folder and facts, the prompts' ids, an interpreter for each method."""

    model: dict[str, Any]
    prompts: list[list[Int64]]
    prompt_text: str | None
    prompt_template: bool
    stop_token_ids: list[Int64]
    interpreters: dict[str, dict[str, Any]]
    unavailable: dict[str, dict[str, str]]  # method -> {"reason": …, "remedy": …}
    bandwidth: dict[str, Any] = {}  # read_bytes_s and copy_bytes_s of the device as measured, or the reason why not


class MachineSeen(Record, tag="machine", frozen=True, kw_only=True):
    """The static capture of the machine, and the idle power of the GPUs in use before the first block."""

    machine: Machine
    software: dict[str, str]  # versions by distribution
    gpus: list[str] = []  # telemetry sources of the GPUs that this session uses: "gpu0"
    idle_w: float | None = None


class BlockStarted(Record, tag="block", frozen=True, kw_only=True):
    method: str
    block: Int64
    position: Int64
    of: Int64
    environment: str = ""
    pid: Int64 | None = None


class BlockPhase(Record, tag="block_phase", frozen=True, kw_only=True):
    method: str
    block: Int64
    phase: str  # import | load | warmup | timed | evidence | close


class Loaded(Record, tag="loaded", frozen=True, kw_only=True):
    method: str
    block: Int64
    load_s: float | None = None
    weights_bytes: Int64 | None = None
    dtype: str | None = None
    device: str | None = None
    threads: Int64 | None = None
    versions: dict[str, Any] = {}
    resolved: dict[str, Any] = {}


class RequestStarted(Record, tag="request", frozen=True, kw_only=True):
    """`t` is t_0, the moment before the engine is called."""

    method: str
    block: Int64
    request: Int64
    warmup: bool = False
    prompt_index: Int64 = 0
    prompt_tokens: Int64 = 0
    batch: Int64 = 1


class Tokens(Record, tag="tokens", frozen=True, kw_only=True):
    """Token ids with the time each reached the host; `index` is the position of the first of them in its response."""

    method: str
    block: Int64
    request: Int64
    index: Int64
    times: list[Int64]
    ids: list[Int64]
    sequence: Int64 = 0

    def __post_init__(self) -> None:
        if len(self.times) != len(self.ids):
            raise ValueError(f"{len(self.ids)} tokens with {len(self.times)} times")


class RequestEnded(Record, tag="request_end", frozen=True, kw_only=True):
    """`t` is when the engine's call came back; the last token's own time is in its `tokens` record."""

    method: str
    block: Int64
    request: Int64
    finish: str  # length | eos | stopped | error
    output_tokens: Int64
    cached_prompt_tokens: Int64 | None = None


class Memory(Record, tag="memory", frozen=True, kw_only=True):
    method: str
    block: Int64
    peak_allocated_bytes: Int64 | None = None
    peak_reserved_bytes: Int64 | None = None
    kv_reserved_bytes: Int64 | None = None
    peak_rss_bytes: Int64 | None = None
    missing: dict[str, str] = {}


class EvidenceTaken(Record, tag="evidence", frozen=True, kw_only=True):
    method: str
    block: Int64
    evidence: dict[str, Any]
    in_effect: bool | None = None
    reason: str = ""


class Energy(Record, tag="energy", frozen=True, kw_only=True):
    """Reading of the GPUs' energy counters (summed, joules) at an edge of a block, or of its timed part."""

    method: str
    block: Int64
    edge: str  # start | timed_start | timed_end | end
    energy_j: float | None
    reason: str = ""


class BlockEnded(Record, tag="block_end", frozen=True, kw_only=True):
    method: str
    block: Int64
    status: str  # ok | failed | oom | stalled | stopped | unavailable
    error: str = ""
    log_tail: list[str] = []
    left_behind: Int64 = 0  # processes the engine left, ended by the warden


class Telemetry(Record, tag="telemetry", frozen=True, kw_only=True):
    """One tick of the sampler: rows of [source, metric, unit, value or null, t_ns, call_us, status]."""

    rows: list[tuple[str, str, str, float | None, Int64, float, str]]


class SocketsSeen(Record, tag="sockets", frozen=True, kw_only=True):
    """The sockets of a block's processes at one moment: addresses where they listen, of which some are open `beyond`
    this machine, and the other machines that they are connected to. `reason` says what was not told."""

    method: str
    block: Int64
    listening: list[str] = []
    beyond: list[str] = []
    connected: list[str] = []
    reason: str = ""


class Note(Record, tag="note", frozen=True, kw_only=True):
    """A sentence for people: something happened that makes the numbers less worthy or explains a gap."""

    text: str
    flag: str = ""
    method: str | None = None
    block: Int64 | None = None


class Asked(Record, tag="asked", frozen=True, kw_only=True):
    """A viewer's request as the conductor took it: `stop`, or `skip` of one method's block."""

    action: str
    method: str | None = None
    block: Int64 | None = None


class SessionEnded(Record, tag="end", frozen=True, kw_only=True):
    status: str  # finished | stopped | failed | interrupted
    error: str = ""


AnyRecord = (
    Header
    | Phase
    | Prepared
    | MachineSeen
    | BlockStarted
    | BlockPhase
    | Loaded
    | RequestStarted
    | Tokens
    | RequestEnded
    | Memory
    | EvidenceTaken
    | Energy
    | BlockEnded
    | Telemetry
    | SocketsSeen
    | Note
    | Asked
    | SessionEnded
)
