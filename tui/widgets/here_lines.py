"""This machine at a glance: what it is, what can be measured on it, and what was measured last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.words.cells import cut
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice

LAST_LINES = 2


class HereLines(DrawnLines):
    """A line for the devices, one for the methods, and the newest answer."""

    DEFAULT_CSS = """
    HereLines { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._words: Sequence[str] = ()
        self._last = ""
        self._choices: Sequence[Choice] = ()
        self.brief = False  # two lines at most

    def show_machine(self, words: Sequence[str], last: str) -> None:
        self._words, self._last = words, last
        self.refresh(layout=True)
        self.show()

    def show_offer(self, choices: Sequence[Choice]) -> None:
        self._choices = choices
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        first = " │ ".join(map(plain, self._words))
        lines: list[list[Piece]] = [[(cut(first or "Looking at the machine…", width), "strong" if first else "dim")]]
        if not self.brief or not self._last:
            lines.append([(cut(_offered(self._choices), width), "dim")])
        if self._last:
            said = f"Last: {plain(self._last)}"
            told = [cut(said, width)] if self.brief else wrap("", said, width)[:LAST_LINES]
            lines += [[(line, "")] for line in told]
        return lines


def _offered(choices: Sequence[Choice]) -> str:
    if not choices:
        return ""
    able = sum(choice.unavailable is None for choice in choices)
    never = sum(choice.lacking is not None for choice in choices)
    fixed = len(choices) - able - never
    parts = [f"{able} of {len(choices)} methods can be measured here"]
    parts += [f"{fixed} {'need' if fixed > 1 else 'needs'} an environment first"] if fixed else []
    parts += [f"{never} {'need' if never > 1 else 'needs'} another device"] if never else []
    return ", ".join(parts)
