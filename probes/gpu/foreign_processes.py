"""Which processes on a GPU are not ours: counted at each reading, as cheaply as possible."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

import psutil

from probes.base.answer import answer

if TYPE_CHECKING:
    from collections.abc import Collection

NONE_OF_OURS: Final = "no process here is known to be ours, as in a container: ownership cannot be determined"


class Strangers:
    """Counts, of the processes that a driver lists, those which this process did not start.

    A driver may list the ids of another PID namespace, so they are believed only while one of them is this process or
    descends from it. Each is looked up once while it stays in the list: a look costs some 0.1 ms. `also` are processes
    that are measured though this one did not start them: neither they nor what they started count.
    """

    def __init__(self, own: int | None = None) -> None:
        self._own = own or os.getpid()
        self._also: frozenset[int] = frozenset()
        self._known: dict[int, bool] = {}

    @property
    def also(self) -> frozenset[int]:
        return self._also

    @also.setter
    def also(self, pids: frozenset[int]) -> None:
        if pids != self._also:  # who was a stranger may be none now
            self._also, self._known = pids, {}

    def count(self, pids: Collection[int]) -> int | None:
        """How many are not ours; None if none is known to be ours, so that ownership cannot be determined."""
        known = {}
        for pid in pids:
            with contextlib.suppress(psutil.Error, OSError, ValueError, OverflowError):  # what has ended is nobody's
                known[pid] = self._known[pid] if pid in self._known else self._is_own(psutil.Process(pid))
        self._known = known
        if pids and not any(known.values()):
            return None
        return sum(not own for own in known.values())

    def _is_own(self, process: psutil.Process) -> bool:
        own = descends_from(process, {self._own, *self._also})
        if not own and not process.is_running():  # it ended while it was looked at
            raise psutil.NoSuchProcess(process.pid)
        return own


def descends_from(process: psutil.Process, ours: Collection[int]) -> bool:
    """Whether a process is one of `ours` or below one of them; False where it has ended, or is hidden."""
    if process.pid in ours:
        return True
    return bool(answer(lambda: any(parent.pid in ours for parent in process.parents())))
