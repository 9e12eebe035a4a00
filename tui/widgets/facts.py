"""Named facts, one per line: labels at the left, values wrapped at the right."""

from __future__ import annotations

from collections.abc import Sequence

from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.words.cells import fit
from tui.words.fact import Fact
from tui.words.terminal_text import plain

LABEL_WIDTH = 20


class Facts(DrawnLines):
    """May contain untrusted text: control characters are shown as �."""

    DEFAULT_CSS = """
    Facts { height: auto; padding: 0 1; }
    """

    def __init__(
        self,
        facts: Sequence[Fact] = (),
        *,
        label_width: int = LABEL_WIDTH,
        label_style: str = "dim",
        id: str | None = None,  # noqa: A002 - Textual's name
    ) -> None:
        super().__init__(id=id)
        self._facts = facts
        self._label_width, self._label_style = label_width, label_style

    def show_facts(self, facts: Sequence[Fact]) -> None:
        self._facts = facts
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        lines: list[list[Piece]] = []
        for fact in self._facts:
            if not fact.label:
                lines += [[(line, fact.style or "title")] for line in wrap("", plain(fact.text), width)]
                continue
            room = max(10, width - self._label_width)
            for number, line in enumerate(wrap("", plain(fact.text), room)):
                label = fit(plain(fact.label) if number == 0 else "", self._label_width - 1) + " "
                lines.append([(label, self._label_style), (line, fact.style)])
        return lines
