"""What a runner says on its wire, checked and turned into the journal's records.

A runner is not trusted: invalid lines are passed over and counted; a message that contradicts what came
(times that run backwards or lie in the future, counts that do not add up) raises WireLieError: the block fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, get_args

import msgspec

from sessions.disk.messages import (
    PHASES,
    SCORED_PATHS,
    AnyMessage,
    Done,
    ErrorMessage,
    EvidenceMessage,
    Hello,
    LoadedMessage,
    ManyMessage,
    MemoryMessage,
    PhaseMessage,
    PointEndMessage,
    PointMessage,
    RequestEndMessage,
    RequestMessage,
    ScoresMessage,
    TextMessage,
    TokensMessage,
    UnscoredMessage,
)
from sessions.disk.records import AnyRecord, ManyTokens
from sessions.run.packed_tokens import unpacked
from sessions.run.requests_in_flight import PlannedPart, RequestsInFlight
from sessions.run.wire_lie import WireLieError, check_not_after, check_not_before

LINE_LIMIT_BYTES: Final = 4 << 20
INT64_MAX: Final = 2**63 - 1
DEEPEST: Final = 32  # nesting of what a runner may say freely, so that whoever reads it later cannot run out of stack
AFTER_TIMED: Final = PHASES[PHASES.index("timed") + 1 :]
RECORD_OF: Final[dict[type, Callable[..., AnyRecord]]] = {
    kind.__base__: kind for kind in get_args(AnyRecord) if kind.__base__ in get_args(AnyMessage)
}


class WireTranslator:
    """Decodes the lines of one block's runner and gives the journal's records; remembers what they must agree with."""

    def __init__(
        self,
        method: str,
        block: int,
        parts: Sequence[PlannedPart],
        started_ns: int,
        prompt_lengths: Sequence[int] | None = None,
        windows: Sequence[int] = (),
        *,
        load: bool = False,
        ends_ns: int | None = None,
    ) -> None:
        """`parts` are one for each point where there is a `load`, otherwise one; `prompt_lengths` tokens of each
        prompt, None: not known; `windows` how many ids of each window of fidelity are scored; from `ends_ns` on the
        runner begins no request."""
        self._method, self._block = method, block
        self._decoder = msgspec.json.Decoder(AnyMessage)
        self.requests = RequestsInFlight(parts, load, prompt_lengths, ends_ns)
        self._started_ns = self._last_ns = started_ns
        self._windows = windows
        self._scored: set[tuple[str, int | None]] = set()
        self._said_once: set[str] = set()
        self.rejected = 0
        self.phase = ""
        self.hello: Hello | None = None
        self.error: ErrorMessage | None = None
        self.done = False

    @property
    def measured(self) -> bool:
        """Whether the timed part is over: all requests have ended, and what follows is read of the engine."""
        return self.phase in AFTER_TIMED and self.requests.over

    @property
    def finished_requests(self) -> int:
        """How many have ended, warm-ups among them."""
        return self.requests.ended

    def take(self, line: bytes, now_ns: int) -> AnyRecord | None:
        """The record of one line, None if it has none. Raises WireLieError."""
        try:
            message: AnyMessage = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.rejected += 1
            return None
        if self.done:
            raise WireLieError(f"it sent {_kind(message)!r} after it was done")
        match message:
            case Hello():
                self._once(message)
                self.hello = message
            case PhaseMessage():
                return self._phase(message, now_ns)
            case RequestMessage() | RequestEndMessage() | PointMessage() | PointEndMessage():
                return self._request(message, now_ns)
            case TokensMessage() | ManyMessage() | TextMessage():
                return self._tokens(message, now_ns)
            case LoadedMessage() | MemoryMessage():
                return self._facts(message, now_ns)
            case EvidenceMessage():
                return self._evidence(message, now_ns)
            case ScoresMessage() | UnscoredMessage():
                return self._scores(message, now_ns)
            case ErrorMessage():
                self._once(message)
                self.error = message
            case Done():
                if lie := self.requests.incomplete(message.t):
                    raise WireLieError(lie)
                self.done = True
        return None

    def _once(self, message: AnyMessage) -> None:
        kind = _kind(message)
        if kind in self._said_once:
            raise WireLieError(f"it sent {kind!r} twice")
        self._said_once.add(kind)

    def _time(self, t: int, now_ns: int) -> int:
        check_not_after(t, now_ns)
        check_not_before(t, self._last_ns)
        self._last_ns = t
        return t

    def _record(self, said: AnyMessage, t: int) -> AnyRecord:
        fields = msgspec.structs.asdict(said) | {"t": t, "method": self._method, "block": self._block}
        return RECORD_OF[type(said)](**fields)

    def _phase(self, said: PhaseMessage, now_ns: int) -> AnyRecord | None:
        if said.phase not in PHASES:
            self.rejected += 1
            return None
        if self.phase and PHASES.index(said.phase) <= PHASES.index(self.phase):
            raise WireLieError(f"it began the phase {said.phase!r} after {self.phase!r}")
        self.phase = said.phase
        return self._record(said, self._time(said.t, now_ns))

    def _facts(self, said: LoadedMessage | MemoryMessage, now_ns: int) -> AnyRecord | None:
        self._once(said)
        fields = msgspec.structs.asdict(said)
        _refuse_negative(fields)
        if too_much(fields):
            self.rejected += 1
            return None
        load_s = said.load_s if isinstance(said, LoadedMessage) else None
        if load_s is not None and load_s * 1e9 > max(0, said.t - self._started_ns):
            raise WireLieError(f"it claims {load_s:.3f} s of loading, longer than it has been running")
        if isinstance(said, LoadedMessage) and self.hello is not None:
            said = msgspec.structs.replace(said, versions={"python": self.hello.python, **said.versions})
        return self._record(said, self._time(said.t, now_ns))

    def _evidence(self, said: EvidenceMessage, now_ns: int) -> AnyRecord | None:
        if too_much(said.evidence):
            self.rejected += 1
            return None
        self._once(said)
        return self._record(said, self._time(said.t, now_ns))

    def _scores(self, said: ScoresMessage | UnscoredMessage, now_ns: int) -> AnyRecord | None:
        if said.path not in SCORED_PATHS:
            self.rejected += 1
            return None
        place = (said.path, said.window if isinstance(said, ScoresMessage) else None)
        if self.phase != "fidelity" or place in self._scored:
            raise WireLieError(f"it scored a window on the path {said.path!r} out of turn")
        if isinstance(said, ScoresMessage):
            self._check_scores(said)
        self._scored.add(place)
        return self._record(said, self._time(said.t, now_ns))

    def _check_scores(self, said: ScoresMessage) -> None:
        """What it scored is a window of the session, and each negative log-likelihood could be one."""
        if not 0 <= said.window < len(self._windows):
            raise WireLieError(f"it scored window {said.window} of {len(self._windows)}")
        if {len(said.nll), len(said.top1)} != {self._windows[said.window]}:
            raise WireLieError(
                f"it scored {len(said.nll)} ids of window {said.window}, which has {self._windows[said.window]}"
            )
        if any(nll is not None and nll < 0 for nll in said.nll):
            raise WireLieError(f"it says that an id of window {said.window} has a probability above 1")

    def _request(
        self, said: RequestMessage | RequestEndMessage | PointMessage | PointEndMessage, now_ns: int
    ) -> AnyRecord:
        match said:
            case RequestMessage():
                self.requests.begin(said)
            case RequestEndMessage():
                self.requests.end(said)
            case PointMessage():
                if self.phase != "timed":
                    raise WireLieError(f"it began point {said.place} in the phase {self.phase!r}")
                self.requests.begin_point(said)
            case PointEndMessage():
                self.requests.end_point(said)
        return self._record(said, self._time(said.t, now_ns))

    def _tokens(self, said: TokensMessage | ManyMessage | TextMessage, now_ns: int) -> AnyRecord | None:
        match said:
            case TokensMessage():
                newest = self.requests.arrive(said, said.sequence, now_ns)
            case ManyMessage():
                return self._many(said, now_ns)
            case TextMessage():
                newest = self.requests.arrive_as_text(said, now_ns)
        if newest is None:
            return None
        self._last_ns = max(self._last_ns, newest)
        return self._record(said, newest)

    def _many(self, said: ManyMessage, now_ns: int) -> AnyRecord | None:
        tokens = unpacked(said)
        newest = max((t for each in tokens if (t := self.requests.arrive(each, 0, now_ns)) is not None), default=None)
        if newest is None:
            return None
        self._last_ns = max(self._last_ns, newest)
        return ManyTokens(t=newest, method=self._method, block=self._block, tokens=tokens)


def _kind(message: AnyMessage) -> str:
    return str(type(message).__struct_config__.tag)


def too_much(value: object) -> bool:
    """Whether what a runner says freely is nested too deeply, or longer than a line of the journal when it is written
    again: a float may take more characters than it came in."""
    return _too_deep(value) or len(msgspec.json.encode(value)) > LINE_LIMIT_BYTES


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _refuse_negative(fields: Mapping[str, object]) -> None:
    for name, value in fields.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value <= INT64_MAX:
            raise WireLieError(f"it reported {name} = {value}")
