"""The steps of a session's preparation with their progress."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from sessions.watch.live import PhaseLive
from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.words import figures
from tui.words.cells import cut
from tui.words.terminal_text import plain

MARKS = {"started": ("▶", "accent"), "progress": ("▶", "accent"), "ended": ("✓", "good"), "failed": ("✗", "bad")}
BAR_WIDTH = 16


class Phases(DrawnLines):
    """A line per step: environments, model, prompt, waiting for the device."""

    DEFAULT_CSS = """
    Phases { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._phases: Sequence[PhaseLive] = ()
        self._notes: Sequence[str] = ()

    def show_phases(self, phases: Sequence[PhaseLive], notes: Sequence[str]) -> None:
        self._phases, self._notes = phases, notes
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        lines = [self._line(phase, width) for phase in self._phases]
        lines += [[(cut(f"! {plain(note)}", width), "warning")] for note in self._notes]
        return lines or [[("Preparing…", "dim")]]

    def _line(self, phase: PhaseLive, width: int) -> list[Piece]:
        mark, style = MARKS.get(phase.state, ("·", "dim"))
        line: list[Piece] = [(mark + " ", style), (plain(phase.name) + "  ", "")]
        if phase.state == "progress" and phase.done is not None and phase.total:
            filled, empty = figures.bar(phase.done / phase.total, BAR_WIDTH)
            line += [(filled, "bar"), (empty, "dim"), (f" {_amount(phase)}  ", "")]
        room = width - sum(cell_len(text) for text, _ in line)
        return [*line, (cut(plain(phase.detail), room), "bad" if phase.state == "failed" else "dim")]


def _amount(phase: PhaseLive) -> str:
    if phase.unit in ("bytes", "B"):
        return figures.of_total(phase.done, phase.total)
    return f"{phase.done}/{phase.total} {phase.unit}".rstrip()
