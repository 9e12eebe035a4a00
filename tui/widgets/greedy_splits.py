"""Where greedy texts diverge from their references': both texts side by side from there on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

from tui.widgets.drawn_lines import DrawnLines, Piece
from tui.widgets.live_text import wrap
from tui.widgets.theme import sign_of
from tui.words.cells import cut, fit
from tui.words.terminal_text import one_line, plain

if TYPE_CHECKING:
    from sessions.verdict.splits import Split

COMMON_LINES = 2  # of what both say before the split
TEXT_LINES = 6  # of each by itself
GAP = " │ "
MARK = "▸"  # before the first difference


@dataclass(frozen=True, slots=True)
class SplitShown:
    """A row whose greedy text leaves its reference's: its name and series style, the sentence that says where, and
    both texts (None: they cannot be read any more)."""

    name: str
    style: str
    sentence: str
    split: Split | None


class GreedySplits(DrawnLines):
    """Nothing where no greedy text leaves its reference's. The texts are a model's: shown as signs, never obeyed."""

    DEFAULT_CSS = """
    GreedySplits { padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._splits: Sequence[SplitShown] = ()

    def show_splits(self, splits: Sequence[SplitShown]) -> None:
        self._splits = splits
        self.refresh(layout=True)
        self.show()

    def draw(self, width: int) -> list[list[Piece]]:
        lines: list[list[Piece]] = [[("greedy text against the reference's", "title")]] if self._splits else []
        for shown in self._splits:
            lines.append([(f"{sign_of(shown.style)} {one_line(shown.name, 60)}", shown.style)])
            lines += [[(line, "dim")] for line in wrap("", one_line(shown.sentence, 400), width)]
            lines += _texts(shown.split, width)
            lines.append([])
        return lines


def _texts(split: Split | None, width: int) -> list[list[Piece]]:
    """The end of the common text, then the two texts side by side."""
    if split is None or split.common is None:
        return [[("The texts cannot be shown: the model's tokeniser or the session's evidence is missing.", "dim")]]
    column = max(8, (width - len(GAP)) // 2)
    lines: list[list[Piece]] = []
    if split.common.strip():
        lines += [[(line, "")] for line in wrap("", "… " + _flat(split.common), width)[-COMMON_LINES:]]
    heads = (f"{one_line(split.reference, 60)}, the reference:", f"{one_line(split.method, 60)}:")
    lines.append([(fit(heads[0], column) + GAP + fit(heads[1], column).rstrip(), "dim")])
    texts = zip_longest(_wrapped(split.other, column), _wrapped(split.own, column), fillvalue="")
    marks = (_difference(split.other, split.own), _difference(split.own, split.other))
    for reference, own in texts:
        left, right = _marked(fit(reference, column), marks[0], ""), _marked(own, marks[1], "accent")
        lines.append([*left, (GAP, "dim"), *right])
        marks = (0, 0)  # of the first line alone
    return lines


def _difference(text: str | None, other: str | None) -> int:
    """How many characters of the marked text reach to the end of the word in which it first differs from another."""
    if not text:
        return 0
    whole, against = MARK + _flat(text), MARK + _flat(other or "")
    same = next(
        (place for place, pair in enumerate(zip(whole, against, strict=False)) if len(set(pair)) > 1), len(against)
    )
    end = whole.find(" ", same + 1)
    return end if end >= 0 else len(whole)


def _marked(line: str, length: int, style: str) -> list[Piece]:
    return [(line[:length], "warning"), (line[length:], style)] if length else [(line, style)]


def _wrapped(text: str | None, column: int) -> list[str]:
    lines = wrap("", MARK + _flat(text), column) if text else ["(ends here)"]
    return lines if len(lines) <= TEXT_LINES else [*lines[: TEXT_LINES - 1], cut(lines[TEXT_LINES - 1] + "…", column)]


def _flat(text: str) -> str:
    """On one line, a line break of the text as a sign."""
    return plain(text).replace("\n", "↵ ").replace("\t", " ")
