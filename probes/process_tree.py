"""The measured process tree: its memory, CPU time and size."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from probes.pace import Pace
from probes.reading import OK, Reading
from probes.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AT_ONCE: Final = 8  # processes read freshly at one tick; the others of a bigger tree keep their last values
SLOW_TURN: Final = 3
NOT_ALLOWED: Final = "the process belongs to another user: run the workbench as that user"
PSS_AT_MOST: Final = 2 * 2**30  # bytes of RSS; walking 300 MB of 4 KiB pages took 5.6 ms
TOO_BIG: Final = "not read for processes above 2 GiB: it would hold up every other reading"
NO_PSS: Final = "this system does not tell the proportional share (PSS)"


@dataclass(slots=True)
class _Member:
    """A process of the tree with its last values: RSS in bytes, CPU in percent of one core."""

    process: psutil.Process
    rss: int = 0
    cpu: float | None = None
    cpu_s: float = 0.0
    cpu_at_ns: int | None = None
    pss: int | None = None
    pss_reason: str = "not read yet"
    pace: Pace = field(default_factory=Pace)


class ProcessTree(Source):
    """Source `runner`: the process given to `watch` and its descendants, also those whose parent has ended.

    Every tick: rss_bytes (sum; pages shared between processes count in each) and cpu_percent (of one core, so 200 on
    two). At 1 Hz: pss_bytes (sum; shared pages count once) and processes. A process that ended is no error: it drops
    out, and a tree without a process gives no readings. PSS walks page tables: each process's is read as seldom as its
    cost demands (`Pace`), and not at all above 2 GiB.
    """

    name = "runner"

    def __init__(self, now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._now_ns = now_ns
        self._wanted: int | None = None
        self._root: int | None = None
        self._members: dict[int, _Member] = {}
        self._next = 0
        self._allowed = True

    def watch(self, pid: int | None) -> None:
        self._wanted = pid

    def fast(self) -> Sequence[Reading]:
        self._follow()
        if not self._members:
            return ()
        before = self._now_ns()
        pids = list(self._members)
        start = self._next % len(pids)
        due = (pids[start:] + pids[:start])[:AT_ONCE]
        self._next = start + len(due)
        for pid in due:
            self._read(pid)
        after = self._now_ns()
        if not self._members:
            return ()
        at, cost = (before + after) // 2, (after - before) / 1000
        if not self._allowed:
            return (
                Reading(self.name, "rss_bytes", "bytes", None, at, cost, NOT_ALLOWED),
                Reading(self.name, "cpu_percent", "percent", None, at, 0.0, NOT_ALLOWED),
            )
        rss = float(sum(member.rss for member in self._members.values()))
        readings = [Reading(self.name, "rss_bytes", "bytes", rss, at, cost, OK)]
        shares = [member.cpu for member in self._members.values() if member.cpu is not None]
        if shares:  # a share takes two looks at a process
            readings.append(Reading(self.name, "cpu_percent", "percent", sum(shares), at, 0.0, OK))
        return readings

    def slow(self, turn: int) -> Sequence[Reading]:
        if turn % 10 != SLOW_TURN or not self._members:
            return ()
        before = self._now_ns()
        self._walk()
        after = self._now_ns()
        count = float(len(self._members))
        walked = Reading(self.name, "processes", "count", count, (before + after) // 2, (after - before) / 1000, OK)
        before = after
        for pid, member in list(self._members.items()):
            began = self._now_ns()
            if member.pace.due(began):
                self._read_pss(pid, member)
                member.pace.took(began, self._now_ns())
        after = self._now_ns()
        if not self._members:
            return ()
        shares = [member.pss for member in self._members.values()]
        told = [share for share in shares if share is not None]
        whole = len(told) == len(shares)
        reason = next((member.pss_reason for member in self._members.values() if member.pss is None), OK)
        value = float(sum(told)) if whole else None
        at, cost = (before + after) // 2, (after - before) / 1000
        return (walked, Reading(self.name, "pss_bytes", "bytes", value, at, cost, OK if whole else reason))

    def _follow(self) -> None:
        """Turn to the tree asked for, if another one was."""
        wanted = self._wanted
        if wanted == self._root:
            return
        self._root, self._members, self._allowed = wanted, {}, True
        if wanted is not None:
            self._add(wanted)
            self._walk()

    def _add(self, pid: int) -> None:
        """Take a process in, with its RSS so that the sum is right at once; not its CPU time, which takes two looks."""
        try:
            member = _Member(psutil.Process(pid))
        except (psutil.Error, OSError, ValueError, OverflowError):
            return
        try:
            member.rss = member.process.memory_info().rss
        except psutil.AccessDenied:
            self._allowed = False
        except (psutil.Error, OSError, ValueError, IndexError):
            return
        self._members[pid] = member

    def _walk(self) -> None:
        """Take in new descendants of every member and let go of those whose PID is somebody else's by now."""
        for pid, member in list(self._members.items()):
            if not member.process.is_running():
                del self._members[pid]
        unvisited = list(self._members)
        while unvisited:
            for child in _children(unvisited.pop()):
                if child not in self._members:
                    self._add(child)
                    unvisited.append(child)

    def _read(self, pid: int) -> None:
        member = self._members[pid]
        try:
            rss = member.process.memory_info().rss
            times = member.process.cpu_times()
        except psutil.NoSuchProcess:
            del self._members[pid]
            return
        except psutil.AccessDenied:
            self._allowed = False
            return
        except (OSError, ValueError, IndexError):  # /proc read while the process was ending
            return
        now = self._now_ns()
        if rss == 0:  # a zombie: ended, and not yet waited for
            del self._members[pid]
            return
        member.rss = rss
        cpu_s = times.user + times.system
        if member.cpu_at_ns is not None and now > member.cpu_at_ns:
            member.cpu = max(0.0, cpu_s - member.cpu_s) / (now - member.cpu_at_ns) * 1e11
        member.cpu_s, member.cpu_at_ns = cpu_s, now

    def _read_pss(self, pid: int, member: _Member) -> None:
        if member.rss > PSS_AT_MOST:
            member.pss, member.pss_reason = None, TOO_BIG
            return
        try:
            member.pss = getattr(member.process.memory_full_info(), "pss", None)
            member.pss_reason = NO_PSS
        except psutil.NoSuchProcess:
            self._members.pop(pid, None)
        except psutil.AccessDenied:
            member.pss, member.pss_reason = None, NOT_ALLOWED
        except (OSError, ValueError, IndexError):
            member.pss, member.pss_reason = None, NO_PSS


def _children(pid: int) -> list[int]:
    """The children of `pid` from the kernel's lists, one a thread; psutil would read every process of the machine."""
    found: list[int] = []
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
    for thread in threads:
        try:
            found += [int(child) for child in (thread / "children").read_bytes().split()]
        except FileNotFoundError:
            if thread.exists():  # a kernel without these lists
                return _children_by_psutil(pid)
        except (OSError, ValueError):
            continue
    return found


def _children_by_psutil(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children()]
    except psutil.Error:
        return []
