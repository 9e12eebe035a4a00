"""The messages of the wire, from a runner to the conductor: the one declaration of their fields.

A line is one JSON object, told apart by the key `k`. Times (`t`, `times`) are int nanoseconds of the host's monotonic
clock (`time.perf_counter_ns`). What goes into the journal is there as a record (sessions/disk/records.py): the message
plus `t`, `method` and `block`. A field of `loaded`, `memory` or `evidence` that the runs frame has a column for
(sessions/disk/frame_schema.py) fills it, and so do those of `request` and `request_end` in the requests frame.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # what a frame's column can hold

Nats = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]

# of a block, in their order
PHASES: Final = ("import", "load", "warmup", "timed", "evidence", "greedy", "fidelity", "close")
POINT_ENDS: Final = ("ok", "failed", "oom", "unavailable")
FINISHES: Final = ("length", "eos", "stopped", "error")  # the ways a request ends
SCORED_PATHS: Final = ("prefill", "decode")  # all positions of a window at once, or one id forced at a time


class Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="k", omit_defaults=True, gc=False):
    """A line of the wire or of a journal."""


class TimedLine(Line, frozen=True, kw_only=True):
    """A line that speaks of one moment."""

    t: Int64


class Hello(Line, tag="hello", frozen=True, kw_only=True):
    """The runner has started."""

    pid: Int64
    python: str
    engine: str | None = None


class PhaseMessage(TimedLine, tag="phase", frozen=True, kw_only=True):
    """A phase of the block begins."""

    phase: str  # one of PHASES


class LoadedMessage(TimedLine, tag="loaded", frozen=True, kw_only=True):
    """The model is loaded: what it turned out to be, whatever was asked for; `missing` gives the reason for a None."""

    load_s: float | None = None
    weights_bytes: Int64 | None = None
    dtype: str | None = None
    device: str | None = None
    threads: Int64 | None = None
    versions: dict[str, object] = {}  # distribution -> version
    resolved: dict[str, object] = {}  # setting -> value
    missing: dict[str, str] = {}


class PointMessage(TimedLine, tag="point", frozen=True, kw_only=True):
    """The timed requests of a point begin; `place` is its index in the plan. Sent only under a load."""

    place: Int64


class PointEndMessage(TimedLine, tag="point_end", frozen=True, kw_only=True):
    """A point is over, its warm-ups alone perhaps: those of its requests that did not begin never will."""

    place: Int64
    status: str  # one of POINT_ENDS
    error: str = ""


class RequestMessage(TimedLine, tag="request", frozen=True, kw_only=True):
    """A request begins; `t` is t_0, the moment before the engine is called.

    `scheduled_ns` is when it was due, where that is not the same; `place` is that of its point in the plan.
    """

    request: Int64
    warmup: bool = False
    prompt_index: Int64 = 0
    prompt_tokens: Int64 = 0
    batch: Int64 = 1
    place: Int64 = 0
    scheduled_ns: Int64 | None = None


class TokensMessage(Line, tag="tokens", frozen=True, kw_only=True):
    """Token ids with the time each reached the host; `index` is the position of the first of them in its response.

    An id that is not known is None: its token is known to have come.
    """

    request: Int64
    index: Int64
    times: list[Int64]
    ids: list[Int64 | None]
    sequence: Int64 = 0


class ManyMessage(Line, tag="many", frozen=True, kw_only=True):
    """Token ids of several requests in flight: of each its number, the position of the first of them in its response
    and how many they are; then the times and the ids of all, one request's after another's, as integers of 64 bits. An
    id of -1 is not known. The journal has them as text.
    """

    requests: list[Int64]
    indexes: list[Int64]
    counts: list[Int64]
    times: bytes
    ids: bytes


class TextMessage(Line, tag="text", frozen=True, kw_only=True):
    """Pieces of a response's text with the time each reached the host, where it comes without ids: each piece is of one
    token or more. How many they are is said at the end of the request. Text `beside` tokens that come with their ids is
    for readers, where nobody else can decode them, and counts for nothing.
    """

    request: Int64
    times: list[Int64]
    texts: list[str]
    beside: bool = False


class RequestEndMessage(TimedLine, tag="request_end", frozen=True, kw_only=True):
    """`t` is when the engine's call came back; the last token's own time is in its `tokens`."""

    request: Int64
    finish: str  # one of FINISHES
    output_tokens: Int64
    cached_prompt_tokens: Int64 | None = None  # None where the engine does not know
    decode_steps: Int64 | None = None  # these three: None where nothing was drafted, or it is not known
    drafted_tokens: Int64 | None = None
    accepted_tokens: Int64 | None = None
    counted_prompt_tokens: Int64 | None = None  # where the prompt was sent as text
    error: str = ""  # what broke it off, where the others in flight went on


class MemoryMessage(TimedLine, tag="memory", frozen=True, kw_only=True):
    """Peaks over the timed part; `missing` gives the reason for each that is None."""

    peak_allocated_bytes: Int64 | None = None
    peak_reserved_bytes: Int64 | None = None
    kv_reserved_bytes: Int64 | None = None
    peak_rss_bytes: Int64 | None = None
    missing: dict[str, str] = {}


class EvidenceMessage(TimedLine, tag="evidence", frozen=True, kw_only=True):
    """What shows that the method was in effect: fact -> value or None.

    `profiled` names the facts of a profile; it is empty where that was left out, failed, or is not the engine's way.
    """

    evidence: dict[str, object]
    profiled: list[str] = []


class ScoresMessage(TimedLine, tag="scores", frozen=True, kw_only=True):
    """A window of fidelity, scored: for each of its scored ids the negative log-likelihood in nats, and the id with the
    highest logit; None where that is not finite.

    `kl` is the sum over the window of the divergence from the reference's distributions, in nats, None without full
    logits on both sides; `kl_bound` is no more than that, from the reference's likeliest ids and one bin for the rest.
    """

    path: str  # one of SCORED_PATHS
    window: Int64
    nll: list[Nats | None]
    top1: list[Int64 | None]
    kl: Nats | None = None
    kl_bound: Nats | None = None
    missing: dict[str, str] = {}


class UnscoredMessage(TimedLine, tag="unscored", frozen=True, kw_only=True):
    """Why a path has no scores, or none from here on."""

    path: str  # one of SCORED_PATHS
    reason: str


class ErrorMessage(TimedLine, tag="error", frozen=True, kw_only=True):
    """The job has failed."""

    kind: str  # oom | failed | unsupported
    message: str
    detail: str = ""


class Done(TimedLine, tag="done", frozen=True, kw_only=True):
    """The job is done, and nothing follows."""


AnyMessage = (
    Hello
    | PhaseMessage
    | LoadedMessage
    | PointMessage
    | PointEndMessage
    | RequestMessage
    | TokensMessage
    | ManyMessage
    | TextMessage
    | RequestEndMessage
    | MemoryMessage
    | EvidenceMessage
    | ScoresMessage
    | UnscoredMessage
    | ErrorMessage
    | Done
)
