"""The wardens of the blocks at work, which several lanes have at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from methods.base.warden import kill_descendants


class Wardens:
    """Whatever else is below this process is an orphan, of a warden that was killed: it is this process's to kill."""

    def __init__(self) -> None:
        self._at_work: set[int] = set()
        self._lock = threading.Lock()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """No lane kills orphans meanwhile: what another one starts would look like one."""
        with self._lock:
            yield

    def add(self, pid: int) -> None:
        """A warden is at work; said while `undisturbed` since before its start."""
        self._at_work.add(pid)

    def end(self, pid: int) -> None:
        """One is gone: kill what it may have left."""
        with self._lock:
            self._at_work.discard(pid)
            kill_descendants(frozenset(self._at_work))
