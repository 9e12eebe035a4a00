"""All figures of fidelity: for each method both paths side by side, each as a whole and by stratum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sessions.verdict.fidelity_figures import PATHS, Figures, Mean, Path
from sessions.verdict.fidelity_windows import Scored
from sessions.verdict.fidelity_words import nats
from sessions.verdict.statistics import Interval
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.widgets.theme import method_style, sign_of
from tui.words import figures
from tui.words.cells import fit
from tui.words.terminal_text import one_line

LABEL_WIDTH: Final = 15
CELL: Final = 10
WHOLE: Final = "all"
HEADS: Final[Mapping[Path, str]] = {"prefill": "prefill", "decode": "decoding"}
NOTE: Final = (
    "ΔNLL, p99, largest and KL are in nats a token; confident tokens are those whose two likeliest are at least 0.1"
    " nats apart for the reference, near ties the others."
)


@dataclass(frozen=True, slots=True)
class MethodFidelity:
    """A method's scores by path, and the verdict on each."""

    method: str
    scored: Mapping[Path, Scored]
    verdicts: Mapping[Path, str]


class FidelityTable(DrawnLines):
    """A group of lines for each method."""

    DEFAULT_CSS = """
    FidelityTable { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._methods: Sequence[MethodFidelity] = ()
        self._places: Mapping[str, int] = {}

    def show_methods(self, methods: Sequence[MethodFidelity], places: Mapping[str, int]) -> None:
        """Show these; `places` are those of the session's methods, by name."""
        self._methods, self._places = methods, places
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        lines: list[list[Piece]] = []
        for one in self._methods:
            style = method_style(self._places.get(one.method, 0))
            lines.append([(f"{sign_of(style)} {one_line(one.method, 60)}", style)])
            lines += [*_group(one), *_said(one, width), []]
        return lines + [[(line, "dim")] for line in wrap("", NOTE, width)] if lines else []


def _group(one: MethodFidelity) -> list[list[Piece]]:
    columns: list[tuple[Path, str, Figures]] = []
    for path in PATHS:
        own = one.scored.get(path, Scored()).figures
        if own is not None:
            columns.append((path, WHOLE, own))
            strata = dict.fromkeys(window.stratum for window in own.windows)
            parts = {stratum: own.of_stratum(stratum) for stratum in strata if len(strata) > 1}
            columns += [(path, stratum, part) for stratum, part in parts.items() if part is not None]
    if not columns:
        return []
    paths = [HEADS[path] if part == WHOLE else "" for path, part, _ in columns]
    lines = [_line("", paths, "title"), _line("", [part for _, part, _ in columns], "dim")]
    for label, text in LINES.items():
        cells = [text(own) for _, _, own in columns]
        if any(cell != figures.UNKNOWN for cell in cells):
            lines.append(_line(label, cells, ""))
    return lines


def _line(label: str, cells: Sequence[str], style: str) -> list[Piece]:
    return [(fit(label, LABEL_WIDTH), "dim"), *((fit(cell, CELL), style) for cell in cells)]


def _said(one: MethodFidelity, width: int) -> list[list[Piece]]:
    return [
        [(fit(HEADS[path] if number == 0 else "", LABEL_WIDTH), "dim"), (line, "accent")]
        for path, verdict in one.verdicts.items()
        if verdict
        for number, line in enumerate(wrap("", one_line(verdict, 400), max(20, width - LABEL_WIDTH)))
    ]


def _nats(value: float | None) -> str:
    return figures.UNKNOWN if value is None else nats(value)


def _estimate(mean: Mean | None) -> str:
    return _nats(mean.estimate if mean else None)


def _end(mean: Mean | None, which: Callable[[Interval], float]) -> str:
    interval = mean.interval() if mean else None
    return _nats(which(interval) if interval else None)


def _share(interval: Interval | None) -> str:
    return figures.fine_share(interval.estimate if interval else None)


def _least(interval: Interval | None) -> str:
    return figures.fine_share(interval.low if interval else None)


LINES: Final[Mapping[str, Callable[[Figures], str]]] = {
    "windows": lambda own: str(len(own.windows)),
    "tokens": lambda own: str(own.tokens),
    "ΔNLL": lambda own: _estimate(own.loss),
    "  from": lambda own: _end(own.loss, lambda interval: interval.low),
    "  to": lambda own: _end(own.loss, lambda interval: interval.high),
    "perplexity ×": lambda own: figures.fine_ratio(own.perplexity_ratio),
    "top-1 equal": lambda own: _share(own.agreement),
    "  at least": lambda own: _least(own.agreement),
    "confident": lambda own: _share(own.clear_agreement),
    "  at least ": lambda own: _least(own.clear_agreement),
    "near ties": lambda own: _share(own.near_agreement),
    "p99 |ΔNLL|": lambda own: _nats(own.p99),
    "largest": lambda own: _nats(own.worst),
    "not finite": lambda own: str(own.non_finite) if own.non_finite else figures.UNKNOWN,
    "KL": lambda own: _estimate(own.divergence),
    "KL, at least": lambda own: _estimate(own.divergence_bound if own.divergence is None else None),
}
