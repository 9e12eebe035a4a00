"""What the sampler polls: a source of readings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from probes.base.reading import Reading


class Source:
    """A source of readings. All calls come from the sampler's one thread, except `watch`, which may come from any.

    A source does not raise: what it cannot read is a Reading without a value. The sampler notes one that does raise.
    """

    name = "source"

    def open(self) -> Sequence[Reading]:
        """Get ready, before the first tick; the readings say once what will be missing and why."""
        return ()

    def fast(self) -> Sequence[Reading]:
        """The readings of every tick (10 Hz)."""
        return ()

    def slow(self, turn: int) -> Sequence[Reading]:
        """What is due at tick number `turn` (0, 1, 2… counting the ticks that ran) beyond the fast readings."""
        del turn
        return ()

    def watch(self, pids: Collection[int]) -> None:
        """Make `pids` and their descendants what is measured; with none, no process is."""
