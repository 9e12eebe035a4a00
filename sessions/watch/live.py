"""What a viewer shows while it follows a journal: records go in, one immutable snapshot comes out.

The same reducer serves the command line, the workbench and a replay; it does no I/O and knows no clock of its own.
"""

from __future__ import annotations

import statistics
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
    Memory,
    Note,
    Phase,
    Prepared,
    RequestEnded,
    RequestStarted,
    SessionEnded,
    Telemetry,
    Tokens,
)
from sessions.verdict.statistics import Interval, mean_interval, ratio_interval

RATE_WINDOW_NS = 1_000_000_000
CURVE_POINTS = 600
HISTORY_POINTS = 120


@dataclass(frozen=True, slots=True)
class MethodLive:
    """One row of the live table. Rates are tokens/s of whole requests (e2e_tok_s), timed requests only."""

    name: str
    reference: str | None
    state: str  # waiting, a phase of its block (import load warmup timed evidence close), or the last block's status
    blocks_done: int
    blocks: int
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
    reason: str
    error: str
    history: tuple[float, ...]  # e2e_tok_s of the last requests, oldest first


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
class Live:
    """A session at one moment."""

    session: str
    status: str  # preparing | running | finished | stopped | failed | interrupted
    error: str
    now_ns: int
    started_ns: int | None
    phases: tuple[PhaseLive, ...]
    notes: tuple[str, ...]
    methods: tuple[MethodLive, ...]
    method: str | None  # the one that runs now
    block: int | None
    block_phase: str
    position: int  # of the block in the plan, from 1
    of: int
    request: int | None
    warmup: bool
    text: str
    tokens: int  # of the current request, until now
    tok_s_now: float | None
    curve: tuple[float, ...]  # tok_s_now over time, oldest first
    gauges: dict[tuple[str, str], Gauge] = field(repr=False)
    gpus: tuple[str, ...]
    left_s: float | None
    model_folder: str | None


@dataclass(frozen=True, slots=True)
class _Timed:
    """What a method's timed requests come to: tokens/s and seconds; `block_means` of the blocks that ended well."""

    requests: int
    mean: float | None
    ttft: float | None
    block_means: dict[int, float]


class _Tally:
    """What one method has shown until now."""

    def __init__(self) -> None:
        self.state = "waiting"
        self.statuses: dict[int, str] = {}
        self.rates: dict[int, array[float]] = {}  # tokens/s of each timed request: eight bytes a request
        self.ttfts: dict[int, array[float]] = {}
        self.history: deque[float] = deque(maxlen=HISTORY_POINTS)
        self.energy: dict[int, dict[str, float | None]] = {}
        self.block_tokens: dict[int, int] = {}  # timed ones
        self.load_s: float | None = None
        self.peak_rss_bytes: int | None = None
        self.peak_vram_bytes: int | None = None
        self.in_effect: bool | None = None
        self.reason = ""
        self.error = ""
        self._timed: _Timed | None = None

    def add(self, block: int, rate: float, ttft: float, tokens: int) -> None:
        """Take in a timed request that ended well."""
        self.rates.setdefault(block, array("d")).append(rate)
        self.ttfts.setdefault(block, array("d")).append(ttft)
        self.history.append(rate)
        self.block_tokens[block] = self.block_tokens.get(block, 0) + tokens
        self._timed = None

    def end(self, block: int, status: str) -> None:
        """A block is over."""
        self.state = self.statuses[block] = status
        self._timed = None

    def timed(self) -> _Timed:
        """Worked out once until something is added: a viewer asks ten times a second."""
        if self._timed is None:
            rates = [rate for values in self.rates.values() for rate in values]
            ttfts = [ttft for values in self.ttfts.values() for ttft in values]
            self._timed = _Timed(
                len(rates),
                statistics.fmean(rates) if rates else None,
                statistics.median(ttfts) if ttfts else None,
                {
                    block: statistics.fmean(values)
                    for block, values in sorted(self.rates.items())
                    if values and self.statuses.get(block) == "ok"
                },
            )
        return self._timed

    def forget(self, block: int) -> None:
        """What a block gave that did not end well, or is begun again, counts for nothing."""
        for kept in (self.rates, self.ttfts, self.energy, self.block_tokens, self.statuses):
            kept.pop(block, None)
        self._timed = None

    def joules_per_token(self) -> float | None:
        joules = tokens = 0.0
        for block, edges in ((block, edges) for block, edges in self.energy.items() if "timed_end" in edges):
            start, end = edges.get("timed_start"), edges["timed_end"]
            if start is None or end is None:
                return None
            joules += end - start
            tokens += self.block_tokens.get(block, 0)
        return joules / tokens if tokens and joules > 0 else None


class LiveReducer:
    """Feeds on records in the journal's order; `snapshot()` may be taken at any time.

    `open_decoder` is called with the model's folder once it is known and gives a function that turns the next token
    ids into the next piece of text, or None where the model has no tokeniser.
    """

    def __init__(
        self,
        plan: Plan,
        session: str,
        open_decoder: Callable[[str], Callable[[], Callable[[Sequence[int]], str]] | None] | None = None,
    ) -> None:
        self._plan = plan
        self._session = session
        self._open_decoder = open_decoder
        self._new_decoder: Callable[[], Callable[[Sequence[int]], str]] | None = None
        self._decode: Callable[[Sequence[int]], str] | None = None
        self._tallies = {method.name: _Tally() for method in plan.methods}
        self._status, self._error = "preparing", ""
        self._phases: dict[str, PhaseLive] = {}
        self._notes: deque[str] = deque(maxlen=20)
        self._now = 0
        self._started: int | None = None
        self._method: str | None = None
        self._block: int | None = None
        self._block_phase = ""
        self._position, self._of = 0, len(plan.methods) * plan.blocks
        self._block_started = 0
        self._timed_since: int | None = None
        self._durations: dict[str, list[float]] = {}
        self._request: RequestStarted | None = None
        self._first_token: int | None = None
        self._last_token: int | None = None
        self._count = 0
        self._text: list[str] = []
        self._undecoded: list[int] = []
        self._recent: deque[tuple[int, int]] = deque()
        self._curve: deque[float] = deque(maxlen=CURVE_POINTS)
        self._gauges: dict[tuple[str, str], tuple[str, float | None, str, int]] = {}  # unit, value, status, t_ns
        self._gauge_history: dict[tuple[str, str], deque[float]] = {}
        self._gpus: tuple[str, ...] = ()
        self._vram_before: float | None = None
        self._model_folder: str | None = None

    def feed(self, record: AnyRecord) -> None:
        """Take one record in."""
        # a resumed session's clock begins anew where the machine was started again in between
        self._now = record.t if isinstance(record, Header) else max(self._now, record.t)
        match record:
            case Header():
                self._started = self._started or record.t
                self._status, self._error = "preparing", ""
            case Phase():
                self._phases[record.name] = PhaseLive(
                    record.name, record.state, record.detail, record.done, record.total, record.unit
                )
            case Prepared():
                self._take_prepared(record)
            case MachineSeen():
                self._gpus = tuple(record.gpus)
            case BlockStarted():
                self._start_block(record)
            case BlockPhase():
                self._block_phase = record.phase
                if record.phase == "timed":
                    self._timed_since = record.t
                self._tally(record.method).state = record.phase
            case Loaded():
                self._tally(record.method).load_s = record.load_s
            case RequestStarted():
                self._start_request(record)
            case Tokens():
                self._take_tokens(record)
            case RequestEnded():
                self._end_request(record)
            case Memory():
                tally = self._tally(record.method)
                tally.peak_rss_bytes = _larger(tally.peak_rss_bytes, record.peak_rss_bytes)
            case EvidenceTaken():
                tally = self._tally(record.method)
                tally.in_effect, tally.reason = record.in_effect, record.reason
            case Energy():
                self._tally(record.method).energy.setdefault(record.block, {})[record.edge] = record.energy_j
            case BlockEnded():
                self._end_block(record)
            case Telemetry():
                self._take_telemetry(record)
            case Note():
                self._notes.append(record.text)
            case SessionEnded():
                self._status, self._error = record.status, record.error
                self._method = self._block = self._request = None
                self._block_phase = ""
            case _:
                pass

    def _tally(self, name: str) -> _Tally:
        return self._tallies.setdefault(name, _Tally())

    def _take_prepared(self, record: Prepared) -> None:
        self._status = "running"
        self._model_folder = str(record.model.folder)
        if self._open_decoder is not None and self._model_folder:
            self._new_decoder = self._open_decoder(self._model_folder)

    def _start_block(self, record: BlockStarted) -> None:
        self._status = "running"
        self._method, self._block = record.method, record.block
        self._position, self._of = record.position, record.of
        self._block_started = record.t
        self._timed_since = None
        self._block_phase = "import"
        self._request = None
        self._tally(record.method).forget(record.block)
        self._tally(record.method).state = "import"
        self._vram_before = None

    def _start_request(self, record: RequestStarted) -> None:
        self._request = record
        self._first_token = self._last_token = None
        self._count = 0
        self._text.clear()
        self._undecoded.clear()
        self._recent.clear()
        self._decode = self._new_decoder() if self._new_decoder else None

    def _take_tokens(self, record: Tokens) -> None:
        if not record.times or self._request is None:
            return
        if self._first_token is None:
            self._first_token = record.times[0]
        self._last_token = record.times[-1]
        self._now = max(self._now, record.times[-1])
        self._count += len(record.ids)
        self._undecoded += record.ids  # into text once somebody looks: of an old journal only the last request is seen
        self._recent.append((record.times[-1], len(record.ids)))
        while len(self._recent) > 1 and self._recent[0][0] < record.times[-1] - RATE_WINDOW_NS:
            self._recent.popleft()
        rate = self._rate_now()
        if rate is not None:
            self._curve.append(rate)

    def _rate_now(self) -> float | None:
        """Tokens over the last second, or since the request began where that is less long ago."""
        if self._request is None or not self._recent:
            return None
        end = self._recent[-1][0]
        start = max(self._request.t, end - RATE_WINDOW_NS)
        count = sum(n for t, n in self._recent if t > start)
        return count / ((end - start) / 1e9) if end > start else None

    def _end_request(self, record: RequestEnded) -> None:
        begun = self._request
        if begun is None or begun.request != record.request or record.finish == "error":
            return
        tally = self._tally(record.method)
        if begun.warmup or self._last_token is None or self._first_token is None or self._last_token <= begun.t:
            return
        rate = self._count / ((self._last_token - begun.t) / 1e9)
        tally.add(record.block, rate, (self._first_token - begun.t) / 1e9, self._count)

    def _end_block(self, record: BlockEnded) -> None:
        tally = self._tally(record.method)
        if record.status != "ok":
            tally.forget(record.block)
        tally.end(record.block, record.status)
        if record.error:
            tally.error = record.error
        if self._method == record.method and self._block == record.block:
            if record.status == "ok":  # one that failed says nothing about the others
                self._durations.setdefault(record.method, []).append((record.t - self._block_started) / 1e9)
            self._method = self._block = self._request = None
            self._block_phase = ""

    def _take_telemetry(self, record: Telemetry) -> None:
        for source, metric, unit, value, t_ns, _call, status in record.rows:
            key = (source, metric)
            past = self._gauge_history.get(key)
            if past is None:
                past = self._gauge_history[key] = deque(maxlen=HISTORY_POINTS)
            if value is not None:
                past.append(value)
            self._gauges[key] = (unit, value, status, t_ns)
        used = self._vram_used()
        if self._method is None or used is None:
            return
        if self._block_phase == "import":  # as in vram.py: the least in use before anything is loaded
            self._vram_before = used if self._vram_before is None else min(used, self._vram_before)
        elif self._vram_before is not None:
            tally = self._tally(self._method)
            tally.peak_vram_bytes = _larger(tally.peak_vram_bytes, int(max(0.0, used - self._vram_before)))

    def _vram_used(self) -> float | None:
        values = [gauge[1] for gpu in self._gpus if (gauge := self._gauges.get((gpu, "memory_used_bytes")))]
        known = [value for value in values if value is not None]
        return sum(known) if known and len(known) == len(self._gpus) else None

    def _left_s(self) -> float | None:
        """What the blocks that are missing will take, each as long as those of its method (or the mean of all).

        None while nothing is known: no block is over, or the present one takes longer than it should and is not timed.
        """
        if self._status != "running":
            return None
        known = [value for values in self._durations.values() for value in values]
        left = 0.0
        for block in self._plan.order():
            if block.block in self._tally(block.method).statuses:
                continue
            durations = self._durations.get(block.method) or known
            expected = statistics.fmean(durations) if durations else None
            if (block.method, block.block) == (self._method, self._block):
                expected = self._block_left_s(block.method, block.block, len(block.requests), expected)
            if expected is None:
                return None
            left += expected
        return left or None

    def _block_left_s(self, method: str, block: int, requests: int, expected: float | None) -> float | None:
        """Of the present block: at the pace of its own timed requests, else what is left of the time expected."""
        done = len(self._tally(method).rates.get(block, ()))
        if done and self._timed_since is not None:
            return (self._now - self._timed_since) / 1e9 / done * max(0, requests - done)
        left = 0.0 if expected is None else expected - (self._now - self._block_started) / 1e9
        return left if left > 0 else None

    def snapshot(self) -> Live:
        """The session as of the last record."""
        if self._decode is not None and self._undecoded:
            self._text.append(self._decode(self._undecoded))
        self._undecoded.clear()
        means = {name: tally.timed().block_means for name, tally in self._tallies.items()}
        return Live(
            session=self._session,
            status=self._status,
            error=self._error,
            now_ns=self._now,
            started_ns=self._started,
            phases=tuple(self._phases.values()),
            notes=tuple(self._notes),
            methods=tuple(self._row(method.name, method.reference, means) for method in self._plan.methods),
            method=self._method,
            block=self._block,
            block_phase=self._block_phase,
            position=self._position,
            of=self._of,
            request=self._request.request if self._request else None,
            warmup=self._request.warmup if self._request else False,
            text="".join(self._text),
            tokens=self._count,
            tok_s_now=self._rate_now(),
            curve=tuple(self._curve),
            gauges={
                key: Gauge(*key, unit, value, status, t_ns, tuple(self._gauge_history[key]))
                for key, (unit, value, status, t_ns) in self._gauges.items()
            },
            gpus=self._gpus,
            left_s=self._left_s(),
            model_folder=self._model_folder,
        )

    def _row(self, name: str, reference: str | None, means: dict[str, dict[int, float]]) -> MethodLive:
        tally = self._tally(name)
        own = means[name]
        interval = mean_interval(list(own.values()))
        timed = tally.timed()
        ratio = spread = None
        base = means.get(reference or name, {})
        pairs = [(own[block], base[block]) for block in own if block in base]
        if pairs:
            ratio = statistics.geometric_mean(value / of for value, of in pairs)
            spread = ratio_interval([p[0] for p in pairs], [p[1] for p in pairs])
        return MethodLive(
            name=name,
            reference=reference,
            state=tally.state,
            blocks_done=len(tally.statuses),
            blocks=self._plan.blocks,
            requests_done=timed.requests,
            requests=self._plan.requests,
            tok_s_now=self._rate_now() if name == self._method else None,
            tok_s_mean=timed.mean,
            tok_s_interval=interval,
            ratio=ratio,
            ratio_interval=spread,
            ttft_s=timed.ttft,
            peak_vram_bytes=tally.peak_vram_bytes,
            peak_rss_bytes=tally.peak_rss_bytes,
            energy_j_per_token=tally.joules_per_token(),
            load_s=tally.load_s,
            in_effect=tally.in_effect,
            reason=tally.reason,
            error=tally.error,
            history=tuple(tally.history),
        )


def _larger(first: int | None, second: int | None) -> int | None:
    known = [value for value in (first, second) if value is not None]
    return max(known) if known else None
