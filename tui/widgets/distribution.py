"""The distribution of several samples: one line per sample on a common axis."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.words import figures
from tui.words.cells import fit

LEVELS = " ▁▂▃▄▅▆▇█"
NAME_MOST = 30


@dataclass(frozen=True, slots=True)
class NamedValues:
    """The values of one sample, in the unit of the axis."""

    name: str
    values: Sequence[float]
    style: str


class Distribution(DrawnLines):
    """A histogram of one line for each sample, with its median said beside it."""

    DEFAULT_CSS = """
    Distribution { height: auto; padding: 0 1; }
    """

    def __init__(self, title: str, unit: str, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._title, self._unit = title, unit
        self._samples: Sequence[NamedValues] = ()

    def show_samples(self, samples: Sequence[NamedValues]) -> None:
        self._samples = samples
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        lines: list[list[Piece]] = [[(self._title, "title")]]
        known = [sample for sample in self._samples if sample.values]
        if not known:
            return [*lines, [("No timed requests to show.", "dim")]]
        low, high = min(min(sample.values) for sample in known), max(max(sample.values) for sample in known)
        if high <= low:
            low, high = low - 0.5, high + 0.5
        name_width = min(NAME_MOST, max(cell_len(sample.name) for sample in self._samples), width // 3)
        bins = max(8, width - name_width - 3 - 18)
        for sample in self._samples:
            head: Piece = (fit(sample.name, name_width) + "  ", "")
            if not sample.values:
                lines.append([head, (figures.UNKNOWN, "dim")])
                continue
            counts = [0] * bins
            for value in sample.values:
                counts[min(bins - 1, int((value - low) / (high - low) * bins))] += 1
            top = max(counts)
            blocks = "".join(LEVELS[max(1, round(count / top * 8)) if count else 0] for count in counts)
            middle = statistics.median(sample.values)
            lines.append([head, (blocks, sample.style), (f"  median {figures.rate(middle)}", "dim")])
        left, right = figures.rate(low), f"{figures.rate(high)} {self._unit}"
        gap = " " * max(1, bins - len(left) - len(right))
        lines.append([(" " * (name_width + 2) + left + gap + right, "dim")])
        return lines
