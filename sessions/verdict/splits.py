"""Where a method's greedy text diverges from its reference's: the common part, then each one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from methods.models.model import Model
from sessions.disk.frame_schema import FrameError, FrameRow, read_frame
from sessions.disk.journal import prepared
from sessions.disk.session_folder import SessionFolder
from sessions.frames.greedy import GreedyPass, greedy_pass

SHOWN_TOKENS: Final = 48  # of a text on each side of the split
COLUMNS: Final = ("method", "reference", "evidence", "first_difference", "difference")


@dataclass(frozen=True, slots=True)
class Split:
    """One method's split: `common` is said by both before it, `own` and `other` by the method and by its reference
    from there on. None: no tokeniser."""

    method: str
    reference: str
    sentence: str
    common: str | None
    own: str | None
    other: str | None


def splits(rows: Sequence[FrameRow], model: Model | None) -> tuple[Split, ...]:
    """A split for each method whose rows of the runs frame tell of one; `model` is what the preparation found."""
    from methods.text.tokeniser import Tokeniser, TokeniserError

    passes: dict[str, GreedyPass] = {}
    for row in rows:
        made = greedy_pass(row["evidence"])
        if made is not None and made.ids:
            passes.setdefault(row["method"], made)
    decode = None
    if model is not None:
        try:
            decode = Tokeniser(model.folder).decode
        except TokeniserError:
            decode = None
    found: dict[str, Split] = {}
    for row in rows:
        own, reference = passes.get(row["method"]), passes.get(row["reference"] or "")
        first = row.get("first_difference")
        if own is None or reference is None or first is None:
            continue
        parts: list[str | None] = [None, None, None]
        if decode is not None:
            begin = max(0, first - SHOWN_TOKENS)
            spans = (own.ids[begin:first], own.ids[first : first + SHOWN_TOKENS])
            parts = [decode(span) for span in (*spans, reference.ids[first : first + SHOWN_TOKENS])]
        found.setdefault(row["method"], Split(row["method"], row["reference"], row.get("difference") or "", *parts))
    return tuple(found.values())


def read_splits(folder: SessionFolder) -> tuple[Split, ...]:
    """Those of a saved session; none where its runs cannot be read."""
    try:
        rows = read_frame(folder.frame("runs"), "runs").select(COLUMNS).to_dicts()
    except FrameError:
        return ()
    found = prepared(folder.journal)
    return splits(rows, found.model if found is not None else None)
