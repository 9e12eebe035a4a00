"""The tokens of many requests as the wire packs them, taken apart."""

from __future__ import annotations

from array import array
from typing import Final

from sessions.disk.messages import ManyMessage
from sessions.disk.records import RequestTokens
from sessions.run.wire_lie import WireLieError

UNKNOWN: Final = -1
SIZE: Final = 8  # bytes of a number


def unpacked(said: ManyMessage) -> list[RequestTokens]:
    """Each request's own. Raises WireLieError where the numbers are not as many as it says."""
    counts = said.counts
    total = SIZE * sum(counts)
    shapes = {len(said.requests), len(said.indexes), len(counts)}
    if len(shapes) > 1 or min(counts, default=0) < 0 or {len(said.times), len(said.ids)} != {total}:
        raise WireLieError("it sent tokens of several requests whose numbers do not add up")
    times, ids = array("q", said.times), array("q", said.ids)
    found, first = [], 0
    for request, index, count in zip(said.requests, said.indexes, counts, strict=True):
        own: list[int | None] = list(ids[first : first + count])
        if UNKNOWN in own:
            own = [None if each == UNKNOWN else each for each in own]
        found.append(RequestTokens(request=request, index=index, times=times[first : first + count].tolist(), ids=own))
        first += count
    return found
