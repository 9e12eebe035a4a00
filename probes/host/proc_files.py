"""Files of /proc that are read often: kept open, each reading is one system call and what is parsed is what is asked.

Opening, reading and closing through psutil costs several times as much, and this runs during measurements.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final, NamedTuple

TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
IDLE, IO_WAIT, KINDS = 3, 4, 8  # fields of /proc/stat; the last two, guests' time, are within user's and nice's


class ProcFile:
    """A file of /proc, open until `close`. Opening and reading raise OSError; where a process ended, one of its own."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def text(self, limit: int = 1024) -> bytes:
        """What it says now, at most `limit` bytes of it."""
        return os.pread(self._descriptor, limit, 0)

    def close(self) -> None:
        """Let go of the file; once."""
        os.close(self._descriptor)


class CpuTimes:
    """Utilisation of all cores together between one call of `percent` and the next, from /proc/stat."""

    def __init__(self, path: str = "/proc/stat") -> None:
        self._file = ProcFile(path)
        self._before = self._read()

    def percent(self) -> float:
        """Percent of all cores' time since the call before, or since the beginning; waiting for a disk is not busy.

        Raises OSError where no time was counted since: the kernel counts in steps of 10 ms.
        """
        now = self._read()
        spent = [max(0, later - earlier) for earlier, later in zip(self._before, now, strict=True)]
        total = sum(spent)
        if total == 0:
            raise OSError("the kernel has counted no CPU time since the previous reading")
        self._before = now
        return 100.0 * (total - spent[IDLE] - spent[IO_WAIT]) / total

    def _read(self) -> list[int]:
        words = self._file.text(256).partition(b"\n")[0].split()
        if len(words) <= KINDS or words[0] != b"cpu":
            raise OSError("/proc/stat does not begin with the CPU times")
        return [int(word) for word in words[1 : KINDS + 1]]


class ProcessStat(NamedTuple):
    """`ended`: it has ended and was not yet waited for. cpu_s: user and system time; rss: resident bytes."""

    parent: int
    ended: bool
    cpu_s: float
    rss: int


class ProcessFile:
    """/proc/PID/stat. It stays the file of that one process: when the PID is given to another one, reading fails."""

    def __init__(self, pid: int) -> None:
        self._file = ProcFile(f"/proc/{pid}/stat")
        self.close = self._file.close

    def read(self) -> ProcessStat:
        """Its state now. Raises ProcessLookupError where it has ended, OSError or ValueError for anything odd."""
        return parse_stat(self._file.text())


def parse_stat(text: bytes) -> ProcessStat:
    """The fields of /proc/PID/stat that are used here; ValueError where it is none."""
    # the second field is the program's name in brackets, which may hold anything
    fields = text[text.rindex(b")") + 2 :].split(None, 22)
    if len(fields) < 22:
        raise ValueError("/proc/PID/stat was cut short")
    cpu_s = (int(fields[11]) + int(fields[12])) / TICKS_A_SECOND
    return ProcessStat(int(fields[1]), fields[0] in b"ZX", cpu_s, int(fields[21]) * PAGE_BYTES)


class NewestPid:
    """The newest PID in this PID namespace, from /proc/loadavg: while it stays the same, no process was started."""

    def __init__(self, path: str = "/proc/loadavg") -> None:
        self._file: ProcFile | None = None
        with suppress(OSError):
            self._file = ProcFile(path)

    def read(self) -> int | None:
        """None if not reported by this system."""
        try:
            newest = int(self._file.text(128).split()[-1]) if self._file else 0
        except (OSError, ValueError, IndexError):
            return None
        return newest or None
