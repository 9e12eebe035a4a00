"""The rows of the fidelity frame: each scored window of a block beside the reference's scores of it.

The journal has what was scored, id by id; sums and counts follow from that here, so that they can be drawn again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final

import polars as pl

from sessions.disk.frame_schema import CLEAR_NATS, FIDELITY, FrameRow
from sessions.disk.messages import SCORED_PATHS
from sessions.disk.records import ReferencePath, ReferenceScored, Scores, Unscored

Key = tuple[str, int, int]  # method, block, attempt
NO_SCORES: Final = "the block ended before it had scored anything on this path"
NOT_FINITE: Final = "{count} of its {tokens} scores are not finite"
NOT_THE_WINDOW: Final = "the engine scored {count} ids of a window whose scored part has {tokens}"
NO_REFERENCE: Final = "the reference has no scores on this path"


class FidelityRows:
    """Takes in scores, with the key of the attempt at a block that they belong to, and the session's reference."""

    def __init__(self) -> None:
        self.reference: ReferenceScored | None = None
        self._scores: dict[Key, dict[tuple[str, int], Scores]] = {}
        self._unscored: dict[Key, dict[str, str]] = {}

    def add(self, record: Scores | Unscored, key: Key) -> None:
        """Take in one record."""
        scored = self._scores.setdefault(key, {})
        if isinstance(record, Unscored):
            self._unscored.setdefault(key, {})[record.path] = record.reason
        else:
            scored[record.path, record.window] = record

    def frame(self, session: str, counting: Iterable[Key]) -> pl.DataFrame:
        """The frame. Of a session with a reference, a method none of whose blocks in `counting` has scores has a row
        per path that says why, in the first of them."""
        rows = [row for key in self._scores for row in self._of_block(key)]
        if self.reference is not None:
            scored = {row["method"] for row in rows}
            for method, block, attempt in counting:
                if method not in scored:
                    scored.add(method)
                    reason = self.reference.reason or NO_SCORES
                    rows += [_without((method, block, attempt), path, reason) for path in SCORED_PATHS]
        return pl.DataFrame([{"session": session, **row} for row in rows], schema=FIDELITY)

    def _of_block(self, key: Key) -> list[FrameRow]:
        rows: list[FrameRow] = []
        for path in SCORED_PATHS:
            scores = sorted(self._scores[key].items())
            rows += [self._row(key, record) for (of, _), record in scores if of == path]
            reason = self._unscored.get(key, {}).get(path)
            if reason is not None or not any(of == path for (of, _), _ in scores):
                rows.append(_without(key, path, reason or NO_SCORES))
        return rows

    def _row(self, key: Key, record: Scores) -> FrameRow:
        missing = dict(record.missing)
        windows = self.reference.windows if self.reference is not None else []
        window = windows[record.window] if 0 <= record.window < len(windows) else None
        reference = self.reference.of(record.path) if self.reference is not None else None
        tokens = len(record.nll) if window is None else window.scored
        if len(record.nll) != tokens or len(record.top1) != tokens:
            return _without(key, record.path, NOT_THE_WINDOW.format(count=len(record.nll), tokens=tokens))
        finite = [nll for nll in record.nll if nll is not None]
        if len(finite) < tokens:
            missing["nll"] = missing["worst"] = NOT_FINITE.format(count=tokens - len(finite), tokens=tokens)
        row: FrameRow = {
            **_place(key, record.path),
            "window": record.window,
            "stratum": window.stratum if window else None,
            "tokens": tokens,
            "nll": math.fsum(finite) if len(finite) == tokens else None,
            "kl": record.kl,
            "kl_bound": record.kl_bound,
            "non_finite": tokens - len(finite),
            "nll_each": record.nll,
        }
        if reference is None or window is None:
            missing.setdefault("nll_reference", NO_REFERENCE)
        else:
            row |= _beside(record, reference)
        return {**row, "missing": json.dumps(missing, ensure_ascii=False)}


def _beside(record: Scores, reference: ReferencePath) -> FrameRow:
    """The columns that take the reference's scores of the same window."""
    nll, top1, margin = (each[record.window] for each in (reference.nll, reference.top1, reference.margin))
    equal = [own == other for own, other in zip_longest(record.top1, top1)]
    clear = [ahead >= CLEAR_NATS for ahead in margin]
    apart = [abs(own - other) for own, other in zip(record.nll, nll, strict=True) if own is not None]
    return {
        "nll_reference": math.fsum(nll),
        "nll_reference_each": nll,
        "top1_equal": sum(equal),
        "top1_equal_clear": _count(equal, clear),
        "clear_tokens": sum(clear),
        "worst": max(apart) if len(apart) == len(nll) else None,
    }


def _count(equal: Sequence[bool], clear: Sequence[bool]) -> int:
    return sum(both for both in map(all, zip(equal, clear, strict=True)))


def _place(key: Key, path: str) -> FrameRow:
    return {"method": key[0], "block": key[1], "attempt": key[2], "path": path}


def _without(key: Key, path: str, reason: str) -> FrameRow:
    return {**_place(key, path), "missing": json.dumps({"nll": reason}, ensure_ascii=False)}
