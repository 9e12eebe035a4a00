"""Progress of a long preparation step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a preparation: `done` of `total` `unit`s ("bytes", "tensors"…), each None if unknown."""

    phase: str
    detail: str
    done: int | None = None
    total: int | None = None
    unit: str = ""


Report = Callable[[Progress], None]
"""Called at least every half second while something is under way; an exception out of it stops the work cleanly."""


def silent(_: Progress) -> None:
    """For callers that show nothing."""
