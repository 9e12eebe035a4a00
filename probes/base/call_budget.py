"""Limits how often a reading of unknown cost is repeated."""

from __future__ import annotations

from typing import Final

SHARE: Final = 0.0003


class CallBudget:
    """Keeps a costly reading to at most `share` of the time: after one that took c, the next is due in c / share."""

    def __init__(self, share: float = SHARE) -> None:
        self._share = share
        self._due_ns = 0

    def due(self, now_ns: int) -> bool:
        return now_ns >= self._due_ns

    def took(self, before_ns: int, after_ns: int) -> None:
        self._due_ns = after_ns + int((after_ns - before_ns) / self._share)
