"""The requests of a runner as they come in flight: each as planned, its tokens in order, its end as counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from sessions.disk.messages import (
    FINISHES,
    POINT_ENDS,
    PointEndMessage,
    PointMessage,
    RequestEndMessage,
    RequestMessage,
    TextMessage,
    TokensMessage,
)
from sessions.disk.records import RequestTokens
from sessions.run.wire_lie import WireLieError, check_not_after, check_not_before

MOST_SEQUENCES: Final = 4096
BESIDE: Final = -1  # stands for a sequence, of the times of text beside tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """What a block is to measure at a point, or all that it is to, where there is no load: the point's place in the
    plan, the numbers of the requests, the most tokens of a response, and how many may be in flight (None: all)."""

    place: int = 0
    warmups: Sequence[int] = ()
    timed: Sequence[int] = ()
    max_new_tokens: int
    in_flight: int | None = 1


@dataclass(slots=True)
class _Part:
    """What has come of a part until now: `expected` are the numbers of requests that have not begun, in their order."""

    planned: PlannedPart
    expected: deque[int]
    over: bool = False


@dataclass(slots=True)
class _Open:
    """A request in flight: tokens and the newest time of each of its sequences, or pieces of its text."""

    begun: RequestMessage
    max_new_tokens: int
    counts: dict[int, int] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    pieces: int = 0
    beside: int = 0  # pieces of text that is only for readers

    def arrive(self, times: Sequence[int], sequence: int, now_ns: int) -> int:
        """The last of the times: the sequences of a response have each their own, none before the request's."""
        newest = self.newest.get(sequence, self.begun.t)
        for t in times:
            check_not_before(t, newest)
            newest = t
        check_not_after(newest, now_ns)
        self.newest[sequence] = newest
        return newest


class RequestsInFlight:
    """Checks what a runner says of requests against what is planned, and against what it said before.

    Each check raises WireLieError. `parts` are one for each point where there is a `load`, otherwise one;
    `prompt_lengths` are tokens of each prompt, None: not known. From `ends_ns` on none need begin that has not.
    """

    def __init__(
        self,
        parts: Sequence[PlannedPart],
        load: bool,
        prompt_lengths: Sequence[int] | None,
        ends_ns: int | None = None,
    ) -> None:
        self._parts = {part.place: _Part(part, deque([*part.warmups, *part.timed])) for part in parts}
        self._load = load
        self._point: int | None = None if load else 0  # whose timed requests may begin
        self._warmups = frozenset(number for part in parts for number in part.warmups)
        self._prompt_lengths = prompt_lengths
        self._open: dict[int, _Open] = {}
        self._ends_ns = ends_ns
        self.ended = self.cut = self.whole = 0  # `whole` are timed and were neither cut nor broken off

    @property
    def over(self) -> bool:
        """Whether none is in flight, nor to come."""
        return not self._open and not self.to_go

    @property
    def over_as_planned(self) -> bool:
        """Whether it is over, and the time cut none of it."""
        return self.over and not self.cut

    @property
    def to_go(self) -> int:
        """How many have not begun."""
        return sum(len(part.expected) for part in self._parts.values())

    def incomplete(self, t: int) -> str:
        """What is wrong with being done at `t`; "" where nothing is."""
        for number in self._open:
            return f"it claims to be done inside request {number}"
        if self.to_go and (self._ends_ns is None or t < self._ends_ns):
            return f"it claims to be done with {self.to_go} requests to go"
        for place, part in self._parts.items():
            if self._load and not part.over:
                return f"it claims to be done, and has not ended point {place}"
        return ""

    def begin_point(self, said: PointMessage) -> None:
        """In the timed part."""
        part = self._parts.get(said.place)
        if not self._load or part is None or part.over or self._point is not None:
            raise WireLieError(f"it began point {said.place} out of turn")
        self._point = said.place

    def end_point(self, said: PointEndMessage) -> None:
        part = self._parts.get(said.place)
        if not self._load or part is None or part.over or self._open or said.status not in POINT_ENDS:
            raise WireLieError(f"it ended point {said.place} out of turn")
        if said.status == "ok" and (self._point != said.place or part.expected):
            raise WireLieError(
                f"it claims to be done with point {said.place}, with {len(part.expected)} requests to go"
            )
        part.over = True
        part.expected.clear()
        self._point = None

    def begin(self, said: RequestMessage) -> None:
        part = self._parts.get(said.place)
        if part is not None:
            self._check_room(part.planned, said)
        if part is None or not part.expected or said.request != part.expected[0]:
            raise WireLieError(f"it began request {said.request} out of turn")
        if said.warmup != (said.request in self._warmups) or said.batch < 1 or said.prompt_tokens < 0:
            raise WireLieError(f"it described request {said.request} not as planned")
        if not said.warmup and said.place != self._point:
            raise WireLieError(f"it began request {said.request} outside its point")
        if said.scheduled_ns is not None and not 0 <= said.scheduled_ns <= said.t:
            raise WireLieError(f"it began request {said.request} before it was due")
        lengths = self._prompt_lengths
        if lengths is not None and (
            not 0 <= said.prompt_index < len(lengths) or said.prompt_tokens != lengths[said.prompt_index]
        ):
            raise WireLieError(
                f"it took {said.prompt_tokens} tokens for prompt {said.prompt_index} of request {said.request},"
                " which has a different number"
            )
        self._open[said.request] = _Open(said, part.planned.max_new_tokens)
        part.expected.popleft()

    def _check_room(self, planned: PlannedPart, said: RequestMessage) -> None:
        """A request begins beside others of its point alone, and no more than are to be in flight."""
        for number, other in self._open.items():
            if other.begun.place != said.place or planned.in_flight == 1:
                raise WireLieError(f"it began request {said.request} inside request {number}")
            break  # those in flight are of one point
        if planned.in_flight is not None and len(self._open) >= planned.in_flight:
            raise WireLieError(f"it began request {said.request} with {len(self._open)} in flight, as many as may be")

    def arrive(self, said: TokensMessage | RequestTokens, sequence: int, now_ns: int) -> int | None:
        """When the last of the tokens came; None where there are none."""
        request = self._open.get(said.request)
        if request is None:
            raise WireLieError(f"it sent tokens of request {said.request} outside that request")
        count = len(said.ids)
        if len(said.times) != count:
            raise WireLieError(f"it sent {count} tokens with {len(said.times)} times")
        if not 0 <= sequence < MOST_SEQUENCES:
            raise WireLieError(f"it sent tokens of a sequence {sequence}, which cannot exist")
        before = request.counts.get(sequence, 0)
        if said.index != before:
            raise WireLieError(f"it lost count: token {said.index} came after {before}")
        if not count:
            return None
        if any(each is not None and each < 0 for each in said.ids):
            raise WireLieError("it sent an invalid token ID")
        if before + count > request.max_new_tokens:
            raise WireLieError(
                f"it sent {before + count} tokens of request {said.request},"
                f" of which {request.max_new_tokens} were requested"
            )
        if request.pieces:
            raise WireLieError(f"it sent both text and tokens of request {said.request}")
        request.counts[sequence] = before + count
        return request.arrive(said.times, sequence, now_ns)

    def arrive_as_text(self, said: TextMessage, now_ns: int) -> int | None:
        """When the last of the pieces came; None where there are none."""
        request = self._open.get(said.request)
        if request is None:
            raise WireLieError(f"it sent text of request {said.request} outside that request")
        if len(said.times) != len(said.texts):
            raise WireLieError(f"it sent {len(said.texts)} pieces of text with {len(said.times)} times")
        if not said.texts:
            return None
        if said.beside:
            request.beside += len(said.texts)
        elif request.counts:
            raise WireLieError(f"it sent both text and tokens of request {said.request}")
        else:
            request.pieces += len(said.texts)
        if max(request.pieces, request.beside) > request.max_new_tokens:
            raise WireLieError(
                f"it sent {max(request.pieces, request.beside)} pieces of text for request {said.request},"
                f" of which {request.max_new_tokens} tokens were requested"
            )
        return request.arrive(said.times, BESIDE if said.beside else 0, now_ns)

    def end(self, said: RequestEndMessage) -> None:
        request = self._open.get(said.request)
        if request is None:
            raise WireLieError(f"it ended request {said.request}, which had not begun")
        counted, most = sum(request.counts.values()), request.max_new_tokens
        broken = said.finish in ("error", "stopped")  # of text that broke off nobody has said how much it was
        counts = not broken or said.output_tokens
        if request.pieces and counts and not request.pieces <= said.output_tokens <= most:
            raise WireLieError(
                f"it says request {said.request} has {said.output_tokens} tokens, which came in {request.pieces} pieces"
                f" and of which {most} were requested"
            )
        if not request.pieces and said.output_tokens != counted:
            raise WireLieError(f"it says request {said.request} has {said.output_tokens} tokens, but sent {counted}")
        if said.finish not in FINISHES:
            raise WireLieError(f"it ended request {said.request} with an unknown finish reason")
        prompt_tokens = request.begun.prompt_tokens
        if said.counted_prompt_tokens is not None:
            prompt_tokens = said.counted_prompt_tokens
        if prompt_tokens < 0 or not 0 <= (said.cached_prompt_tokens or 0) <= prompt_tokens:
            raise WireLieError(f"it took {said.cached_prompt_tokens} cached tokens of a prompt of {prompt_tokens}")
        _check_speculation(said)
        del self._open[said.request]
        self.ended += 1
        self.cut += said.finish == "stopped"
        self.whole += not broken and not request.begun.warmup


def _check_speculation(said: RequestEndMessage) -> None:
    steps, drafted, accepted = said.decode_steps, said.drafted_tokens, said.accepted_tokens
    if steps is None or drafted is None or accepted is None:
        if (steps, drafted, accepted) != (None, None, None):
            raise WireLieError("it says some of what its speculation did, and not all")
    elif not 0 <= accepted <= drafted or steps < 0 or steps + accepted != said.output_tokens:
        raise WireLieError(
            f"it says {steps} steps gave {said.output_tokens} tokens, {accepted} of them from {drafted} drafted ones"
        )
