"""A session at one moment, as a viewer shows it: immutable, and all that there is to show."""

from __future__ import annotations

from dataclasses import dataclass, field

from sessions.frames.block_spans import BlockSpan
from sessions.frames.tracks import Track
from sessions.verdict.statistics import Interval
from sessions.verdict.verdicts import Kind
from sessions.watch.laps import Lap


@dataclass(frozen=True, slots=True)
class MethodLive:
    """One row of the live table. Rates are tokens/s of whole requests (e2e_tok_s), timed requests only."""

    name: str
    reference: str | None
    state: str  # waiting, a phase of its block (import load warmup timed evidence close), or the last block's status
    blocks_done: int
    blocks: int | None  # None: as many as it takes to decide
    requests_done: int
    requests: int
    tok_s_now: float | None
    tok_s_mean: float | None
    tok_s_interval: Interval | None  # from three blocks on
    ratio: float | None
    ratio_interval: Interval | None
    ttft_s: float | None  # median
    peak_vram_bytes: int | None
    peak_rss_bytes: int | None
    energy_j_per_token: float | None
    load_s: float | None
    in_effect: bool | None
    verdict: Kind | None  # what a comparison would say of the ratio if the session ended now
    decided: bool  # it takes no more rounds, in a session that measures until then
    reason: str
    error: str
    history: tuple[float, ...]  # e2e_tok_s of the last requests, oldest first
    laps: tuple[Lap, ...]  # its timed requests, oldest first; under load the throughput of all in flight, step by step


@dataclass(frozen=True, slots=True)
class PointLive:
    """A point of a load for one method, over its blocks until now."""

    point: str
    method: str
    status: str  # waiting | running | as the last block ended there
    blocks_done: int
    tok_s_total: float | None  # throughput of the steady part, mean of the blocks
    interval: Interval | None
    requests_done: int
    error: str


@dataclass(frozen=True, slots=True)
class FlightLive:
    """A request in flight."""

    request: int
    warmup: bool
    tokens: int
    new_tokens: int  # how many it is to have
    looked_into: bool  # its text is the one that is shown


@dataclass(frozen=True, slots=True)
class Gauge:
    """The newest value of one metric, with its recent past for a curve."""

    source: str
    metric: str
    unit: str
    value: float | None
    status: str
    t_ns: int
    history: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PhaseLive:
    """One preparation step with its progress."""

    name: str
    state: str
    detail: str
    done: int | None
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class LaneLive:
    """What one lane is at: `place` from 0, and the GPUs that the block has, by their sources."""

    place: int
    gpus: tuple[str, ...]
    method: str
    block: int
    block_phase: str
    tok_s_now: float | None


@dataclass(frozen=True, slots=True)
class Live:
    """A session at one moment."""

    session: str
    status: str  # preparing | running | finished | stopped | failed | interrupted
    error: str
    now_ns: int
    started_ns: int | None
    elapsed_s: float  # since it began, without the pauses between its stretches
    phases: tuple[PhaseLive, ...]
    notes: tuple[str, ...]
    methods: tuple[MethodLive, ...]
    method: str | None  # the one that runs now
    block: int | None
    block_phase: str
    position: int  # of the block in the plan, from 1
    of: int  # 0: as many as it takes
    request: int | None
    warmup: bool
    text: str
    tokens: int  # of the current request, until now
    tok_s_now: float | None
    lap: Lap | None  # the timed request that runs, as far as it is; none of a load
    gauges: dict[tuple[str, str], Gauge] = field(repr=False)
    gpus: tuple[str, ...]
    left_s: float | None
    left_most_s: float | None  # where only a range can be told: then left_s is its lower end
    model_folder: str | None
    points: tuple[PointLive, ...] = ()  # of a load, those of a point together
    point: str = ""  # the one that runs now
    lanes: tuple[LaneLive, ...] = ()  # that are at work, where rounds run side by side
    flights: tuple[FlightLive | None, ...] = ()  # by slot; None: it is empty
    blocks: tuple[BlockSpan, ...] = ()  # in the order in which they began
    tracks: tuple[Track, ...] = ()

    @property
    def at_work(self) -> frozenset[str]:
        """The methods that run now, in whichever lane."""
        return frozenset([*(lane.method for lane in self.lanes), *([self.method] if self.method else [])])
