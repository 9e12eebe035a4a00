"""The measured processes: their memory, CPU time and number."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import psutil

from probes.base.call_budget import CallBudget
from probes.base.reading import OK, Reading
from probes.base.source import Source
from probes.host.descendants import descendants
from probes.host.proc_files import NewestPid, ProcessFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

AT_ONCE: Final = 8  # processes read freshly at one look; the others of a bigger tree keep their last values
SLOW_TURN: Final = 3
WALK_SHARE: Final = 0.001
WALK_AT_LEAST_NS: Final = 5_000_000_000  # for a system whose newest PID does not tell of a new process
NOT_ALLOWED: Final = "the process belongs to another user: run the workbench as that user"
PSS_AT_MOST: Final = 2 * 2**30  # bytes of RSS; walking 300 MB of 4 KiB pages took 5.6 ms
TOO_BIG: Final = "not read for processes above 2 GiB: it would delay every other reading"
NO_PSS: Final = "this system does not report the proportional share (PSS)"


@dataclass(slots=True)
class _Member:
    """A process of the tree with its last values: RSS in bytes, CPU in percent of one core."""

    file: ProcessFile
    rss: int = 0
    cpu: float | None = None
    cpu_s: float = 0.0
    cpu_at_ns: int | None = None
    pss: int | None = None
    pss_reason: str = "not read yet"
    budget: CallBudget = field(default_factory=CallBudget)


class ProcessTree(Source):
    """Source `runner`: the processes given to `watch` and their descendants, also those whose parent has ended.

    At every second tick, with the host's CPU: rss_bytes (sum; pages shared between processes count in each) and
    cpu_percent (of one core, so 200 on two). At 1 Hz: pss_bytes (sum; shared pages count once) and processes. A process
    that exits is not an error: it drops out, and a tree without a process gives no readings. New descendants are looked
    for once a second, where anybody has begun a process meanwhile. PSS walks page tables: each process's is read as
    seldom as its cost demands (`CallBudget`), and not at all above 2 GiB.
    """

    name = "runner"

    def __init__(self, now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now_ns = now_ns
        self._wanted: frozenset[int] = frozenset()
        self._roots: frozenset[int] = frozenset()
        self._members: dict[int, _Member] = {}
        self._next = 0
        self._allowed = True
        self._newest = NewestPid()
        self._newest_walked: int | None = None
        self._walked_ns = 0
        self._walk_budget = CallBudget(WALK_SHARE)

    def watch(self, pids: Collection[int]) -> None:
        self._wanted = frozenset(pids)

    def slow(self, turn: int) -> Sequence[Reading]:
        if turn % 2 == 0:
            return ()
        readings = self._memory_and_cpu()
        if turn % 10 == SLOW_TURN and self._members:
            readings += self._size_and_share()
        return readings

    def _memory_and_cpu(self) -> list[Reading]:
        if self._wanted != self._roots:
            self._follow(self._wanted)
        if not self._members and self._allowed:
            return []
        before = self._now_ns()
        for pid in self._due():
            self._read(pid)
        after = self._now_ns()
        at, cost = (before + after) // 2, (after - before) / 1000
        if not self._allowed:
            return [
                Reading(self.name, "rss_bytes", "bytes", None, at, cost, NOT_ALLOWED),
                Reading(self.name, "cpu_percent", "percent", None, at, 0.0, NOT_ALLOWED),
            ]
        if not self._members:
            return []
        rss = float(sum([member.rss for member in self._members.values()]))
        readings = [Reading(self.name, "rss_bytes", "bytes", rss, at, cost, OK)]
        shares = [member.cpu for member in self._members.values() if member.cpu is not None]
        if shares:  # a share takes two looks at a process
            readings.append(Reading(self.name, "cpu_percent", "percent", sum(shares), at, 0.0, OK))
        return readings

    def _size_and_share(self) -> list[Reading]:
        before = self._now_ns()
        if self._walk_is_due(before):
            self._walk()
        after = self._now_ns()
        count = float(len(self._members))
        walked = Reading(self.name, "processes", "count", count, (before + after) // 2, (after - before) / 1000, OK)
        before = after
        for pid, member in list(self._members.items()):
            began = self._now_ns()
            if member.budget.due(began):
                self._read_pss(pid, member)
                member.budget.took(began, self._now_ns())
        after = self._now_ns()
        if not self._members:
            return []
        shares = [member.pss for member in self._members.values()]
        told = [share for share in shares if share is not None]
        whole = len(told) == len(shares)
        reason = next((member.pss_reason for member in self._members.values() if member.pss is None), OK)
        value = float(sum(told)) if whole else None
        at, cost = (before + after) // 2, (after - before) / 1000
        return [walked, Reading(self.name, "pss_bytes", "bytes", value, at, cost, OK if whole else reason)]

    def _follow(self, wanted: frozenset[int]) -> None:
        """Switch to other trees; beside one that stays, those that are no longer wanted drop out as they end."""
        new = wanted - self._roots
        if new == wanted:
            for pid in list(self._members):
                self._drop(pid)
        self._roots, self._allowed = wanted, True
        for pid in new:
            self._add(pid)
        if new:
            self._walk()

    def _due(self) -> list[int]:
        """The processes to be read now."""
        pids = list(self._members)
        if len(pids) <= AT_ONCE:
            return pids
        start = self._next % len(pids)
        self._next = start + AT_ONCE
        return (pids[start:] + pids[:start])[:AT_ONCE]

    def _add(self, pid: int) -> None:
        """Take a process in, with its RSS so that the sum is right at once; not its CPU time, which takes two looks."""
        try:
            file = ProcessFile(pid)
        except PermissionError:
            self._allowed = False
            return
        except OSError:
            return
        try:
            now = file.read()
        except (OSError, ValueError):
            file.close()
            return
        self._members[pid] = _Member(file, now.rss)

    def _drop(self, pid: int) -> None:
        self._members.pop(pid).file.close()

    def _walk_is_due(self, now_ns: int) -> bool:
        """Whether there may be new descendants, and the last walk was cheap enough to repeat now."""
        if not self._walk_budget.due(now_ns):
            return False
        newest = self._newest.read()
        forked = newest is None or newest != self._newest_walked
        return forked or now_ns - self._walked_ns >= WALK_AT_LEAST_NS

    def _walk(self) -> None:
        """Take in new descendants of every member."""
        before = self._now_ns()
        self._newest_walked = self._newest.read()
        for pid in descendants(self._members):
            self._add(pid)
        self._walked_ns = self._now_ns()
        self._walk_budget.took(before, self._walked_ns)

    def _read(self, pid: int) -> None:
        member = self._members[pid]
        try:
            seen = member.file.read()
        except ProcessLookupError:
            self._drop(pid)
            return
        except (OSError, ValueError):  # odd, or read while the process was ending
            return
        now = self._now_ns()
        if seen.ended or seen.rss == 0:  # and not yet waited for
            self._drop(pid)
            return
        member.rss = seen.rss
        if member.cpu_at_ns is not None and now > member.cpu_at_ns:
            member.cpu = max(0.0, seen.cpu_s - member.cpu_s) / (now - member.cpu_at_ns) * 1e11
        member.cpu_s, member.cpu_at_ns = seen.cpu_s, now

    def _read_pss(self, pid: int, member: _Member) -> None:
        if member.rss > PSS_AT_MOST:
            member.pss, member.pss_reason = None, TOO_BIG
            return
        try:
            member.pss = getattr(psutil.Process(pid).memory_full_info(), "pss", None)
            member.pss_reason = NO_PSS
        except psutil.NoSuchProcess:
            self._drop(pid)
        except psutil.AccessDenied:
            member.pss, member.pss_reason = None, NOT_ALLOWED
        except (OSError, ValueError, IndexError):
            member.pss, member.pss_reason = None, NO_PSS
