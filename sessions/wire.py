"""What a runner says on its wire, checked and turned into the journal's records.

A runner is not trusted: lines that are no messages are passed over and counted; a message that contradicts what came
before (times that run backwards or lie in the future, counts that do not add up) raises WireLieError: the block failed.
"""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from sessions.records import (
    AnyRecord,
    BlockPhase,
    EvidenceTaken,
    Loaded,
    Memory,
    RequestEnded,
    RequestStarted,
    Tokens,
)

LINE_LIMIT_BYTES: Final = 4 << 20
READ_BYTES: Final = 1 << 18
PIPE_BYTES: Final = 1 << 20  # so that a conductor that sleeps for a while keeps no runner from writing
PHASES: Final = ("import", "load", "warmup", "timed", "evidence", "close")
INT64_MAX: Final = 2**63 - 1


class WireLieError(Exception):
    """The runner's messages contradict themselves; the text says in what."""


class Message(msgspec.Struct, tag_field="k", frozen=True, kw_only=True, gc=False):
    """A line of the wire."""


class Hello(Message, tag="hello", frozen=True, kw_only=True):
    pid: int
    python: str
    engine: str | None = None


class PhaseSaid(Message, tag="phase", frozen=True, kw_only=True):
    t: int
    phase: str


class LoadedSaid(Message, tag="loaded", frozen=True, kw_only=True):
    t: int
    load_s: float | None = None
    weights_bytes: int | None = None
    dtype: str | None = None
    device: str | None = None
    threads: int | None = None
    versions: dict[str, Any] = {}
    resolved: dict[str, Any] = {}


class RequestSaid(Message, tag="request", frozen=True, kw_only=True):
    t: int
    request: int
    warmup: bool = False
    prompt_index: int = 0
    prompt_tokens: int = 0
    batch: int = 1


class TokensSaid(Message, tag="tokens", frozen=True, kw_only=True):
    request: int
    index: int
    t: list[int]
    ids: list[int]
    sequence: int = 0


class RequestEndSaid(Message, tag="request_end", frozen=True, kw_only=True):
    t: int
    request: int
    finish: str
    output_tokens: int
    cached_prompt_tokens: int | None = None


class MemorySaid(Message, tag="memory", frozen=True, kw_only=True):
    t: int
    peak_allocated_bytes: int | None = None
    peak_reserved_bytes: int | None = None
    kv_reserved_bytes: int | None = None
    peak_rss_bytes: int | None = None
    missing: dict[str, str] = {}


class EvidenceSaid(Message, tag="evidence", frozen=True, kw_only=True):
    t: int
    evidence: dict[str, Any]


class ErrorSaid(Message, tag="error", frozen=True, kw_only=True):
    t: int
    kind: str
    message: str
    detail: str = ""


class DoneSaid(Message, tag="done", frozen=True, kw_only=True):
    t: int


AnyMessage = (
    Hello
    | PhaseSaid
    | LoadedSaid
    | RequestSaid
    | TokensSaid
    | RequestEndSaid
    | MemorySaid
    | EvidenceSaid
    | ErrorSaid
    | DoneSaid
)


class LineReader:
    """Whole lines from a non-blocking pipe; memory is bounded by the longest line allowed.

    `rejected` counts what was thrown away: lines over the limit.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self._skipping = False
        self.ended = False
        self.rejected = 0
        os.set_blocking(descriptor, False)

    def read(self) -> list[bytes]:
        """The lines that one read completes; empty where there is nothing whole. `ended` once the writer is gone."""
        try:
            chunk = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        if not chunk:
            self.ended = True
            return []
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if self._skipping and lines:
            lines.pop(0)
            self._skipping = False
        if len(self._rest) > LINE_LIMIT_BYTES:
            self._rest, self._skipping = b"", True
            self.rejected += 1
        return lines


class WireTranslator:
    """Decodes the lines of one block's runner and gives the journal's records; remembers what they must agree with."""

    def __init__(self, method: str, block: int, planned: list[int], warmups: list[int], started_ns: int) -> None:
        self._method, self._block = method, block
        self._decoder = msgspec.json.Decoder(AnyMessage)
        self._expected = [*warmups, *planned]
        self._warmups = frozenset(warmups)
        self._last_ns = started_ns
        self._request: int | None = None
        self._counts: dict[int, int] = {}
        self.rejected = 0
        self.finished_requests = 0
        self.phase = ""
        self.hello: Hello | None = None
        self.error: ErrorSaid | None = None
        self.done = False

    def take(self, line: bytes, now_ns: int) -> AnyRecord | None:
        """The record of one line, None where it is none. Raises WireLieError."""
        try:
            message: AnyMessage = self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.rejected += 1
            return None
        match message:
            case Hello():
                self.hello = message
            case PhaseSaid():
                if message.phase not in PHASES:
                    self.rejected += 1
                    return None
                self.phase = message.phase
                return BlockPhase(
                    t=self._time(message.t, now_ns), method=self._method, block=self._block, phase=message.phase
                )
            case RequestSaid():
                return self._begin(message, now_ns)
            case TokensSaid():
                return self._tokens(message, now_ns)
            case RequestEndSaid():
                return self._end(message, now_ns)
            case LoadedSaid():
                return self._facts(message, Loaded, now_ns)
            case MemorySaid():
                return self._facts(message, Memory, now_ns)
            case EvidenceSaid():
                return EvidenceTaken(
                    t=self._time(message.t, now_ns),
                    method=self._method,
                    block=self._block,
                    evidence=message.evidence,
                )
            case ErrorSaid():
                self.error = message
            case DoneSaid():
                self.done = True
        return None

    def _facts(self, said: LoadedSaid | MemorySaid, kind: type[Loaded | Memory], now_ns: int) -> Loaded | Memory:
        fields = {name: getattr(said, name) for name in said.__struct_fields__}
        _refuse_negative(fields)
        fields |= {"t": self._time(said.t, now_ns), "method": self._method, "block": self._block}
        return msgspec.convert(fields, kind)

    def _time(self, t: int, now_ns: int) -> int:
        if t < self._last_ns:
            raise WireLieError(f"its clock ran backwards by {(self._last_ns - t) / 1e9:.3f} s")
        if t > now_ns:
            raise WireLieError(f"it reported a time {(t - now_ns) / 1e9:.3f} s in the future")
        self._last_ns = t
        return t

    def _begin(self, said: RequestSaid, now_ns: int) -> RequestStarted:
        if self._request is not None:
            raise WireLieError(f"it began request {said.request} inside request {self._request}")
        if not self._expected or said.request != self._expected[0]:
            raise WireLieError(f"it began request {said.request}, which was not its turn")
        if said.warmup != (said.request in self._warmups) or said.batch < 1 or said.prompt_tokens < 0:
            raise WireLieError(f"it described request {said.request} otherwise than planned")
        self._request = self._expected.pop(0)
        self._counts = {}
        return RequestStarted(
            t=self._time(said.t, now_ns),
            method=self._method,
            block=self._block,
            request=said.request,
            warmup=said.warmup,
            prompt_index=said.prompt_index,
            prompt_tokens=said.prompt_tokens,
            batch=said.batch,
        )

    def _tokens(self, said: TokensSaid, now_ns: int) -> Tokens | None:
        if said.request != self._request:
            raise WireLieError(f"it sent tokens of request {said.request} outside that request")
        if len(said.t) != len(said.ids):
            raise WireLieError(f"it sent {len(said.ids)} tokens with {len(said.t)} times")
        if said.index != self._counts.get(said.sequence, 0):
            raise WireLieError(f"it lost count: token {said.index} came after {self._counts.get(said.sequence, 0)}")
        if not said.ids:
            return None
        if min(said.ids) < 0 or max(said.ids) > INT64_MAX:
            raise WireLieError("it sent a token id that cannot be one")
        if any(later < earlier for earlier, later in zip(said.t, said.t[1:], strict=False)):
            raise WireLieError("it sent tokens whose times run backwards")
        if len(self._counts) <= 1:
            self._time(said.t[0], now_ns)
        self._last_ns = max(self._last_ns, self._time_of_last(said.t[-1], now_ns))
        self._counts[said.sequence] = said.index + len(said.ids)
        return Tokens(
            t=said.t[-1],
            method=self._method,
            block=self._block,
            request=said.request,
            index=said.index,
            times=said.t,
            ids=said.ids,
            sequence=said.sequence,
        )

    @staticmethod
    def _time_of_last(t: int, now_ns: int) -> int:
        if t > now_ns:
            raise WireLieError(f"it reported a token {(t - now_ns) / 1e9:.3f} s in the future")
        return t

    def _end(self, said: RequestEndSaid, now_ns: int) -> RequestEnded:
        if said.request != self._request:
            raise WireLieError(f"it ended request {said.request}, which had not begun")
        counted = sum(self._counts.values())
        if said.output_tokens != counted:
            raise WireLieError(f"it says request {said.request} has {said.output_tokens} tokens, but sent {counted}")
        if said.finish not in ("length", "eos", "stopped", "error"):
            raise WireLieError(f"it ended request {said.request} in no known way")
        self._request = None
        self.finished_requests += 1
        return RequestEnded(
            t=self._time(said.t, now_ns),
            method=self._method,
            block=self._block,
            request=said.request,
            finish=said.finish,
            output_tokens=said.output_tokens,
            cached_prompt_tokens=said.cached_prompt_tokens,
        )

    def check_complete(self) -> None:
        """Raise WireLieError where the runner says it is done but has not done all that was planned."""
        if self._expected:
            raise WireLieError(f"it says it is done with {len(self._expected)} requests to go")


def _refuse_negative(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not 0 <= value < INT64_MAX:
            raise WireLieError(f"it reported {name} = {value}")
