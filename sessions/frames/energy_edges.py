"""The GPUs' energy counters at the edges of a block, or of a point in it, and what was spent between them."""

from __future__ import annotations

from typing import Final

from sessions.disk.records import Energy

LEAST_S: Final = 1.0  # the counter moves ten times a second, so that a shorter part may be a tenth off, or show nothing
NO_ENERGY: Final = "no energy counter was read at the edges of this block"


class EnergyEdges:
    """Readings by edge, the last of each."""

    def __init__(self) -> None:
        self._readings: dict[str, Energy] = {}

    def read(self, record: Energy) -> None:
        self._readings[record.edge] = record

    @property
    def block_j(self) -> float | None:
        """Joules of the whole block."""
        return self._between("start", "end")[1]

    @property
    def timed_j(self) -> float | None:
        """Joules of its timed part; None where that is shorter than LEAST_S."""
        lasted_s, joules = self._between("timed_start", "timed_end")
        return joules if lasted_s is not None and lasted_s >= LEAST_S else None

    def missing(self) -> dict[str, str]:
        """Why the columns of what is not known are null."""
        found = {} if self.block_j is not None else {"energy_j": self._reason("end", "start")}
        if self.timed_j is None:
            lasted_s, _ = self._between("timed_start", "timed_end")
            short = "the timed part took {:.2g} s; the energy counter, which moves every 0.1 s, needs {:g} s or more"
            found["timed_energy_j"] = (
                self._reason("timed_end", "timed_start") if lasted_s is None else short.format(lasted_s, LEAST_S)
            )
        return found

    def _reason(self, *edges: str) -> str:
        """What was said where one of these was to be read, the first of them first, else at any."""
        told = [self._readings[edge].reason for edge in (*edges, *self._readings) if edge in self._readings]
        return next(filter(None, told), NO_ENERGY)

    def _between(self, first: str, then: str) -> tuple[float | None, float | None]:
        """Seconds and joules from one edge to another, where they are known."""
        before, after = self._readings.get(first), self._readings.get(then)
        if before is None or after is None:
            return None, None
        if before.energy_j is None or after.energy_j is None:
            return None, None
        return (after.t - before.t) / 1e9, after.energy_j - before.energy_j
