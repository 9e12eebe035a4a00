"""A point of a load: one combination of how many requests are in flight, how they arrive, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta

ALONE: Final = "alone"
Count = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Of `batch`, `concurrency` and `rate` one says how requests arrive: so many sequences begun together, so many
    always in flight (closed loop), or so many a second with gaps drawn from a gamma distribution of shape `burstiness`
    (open loop). `isl` and `osl` are tokens of the prompt and new ones, None: the plan's; `depth` tokens are in the
    cache before a request begins. `requests` and `warmup` are how many a block has of it, 0: as many as the plan says.
    """

    name: str = ALONE
    batch: Count | None = None
    concurrency: Count | None = None
    rate: float | None = None
    burstiness: float | None = None
    isl: Count | None = None
    osl: Count | None = None
    depth: Annotated[int, Meta(ge=0)] = 0
    requests: Annotated[int, Meta(ge=0)] = 0
    warmup: Annotated[int, Meta(ge=0)] = 0

    @property
    def in_flight(self) -> int | None:
        """How many requests are in flight while all slots are taken; None in an open loop, which has no slots."""
        return None if self.rate is not None else self.batch or self.concurrency or 1


PLAIN: Final = Point(batch=1)  # one response after another: all there is, unless a load is asked for
