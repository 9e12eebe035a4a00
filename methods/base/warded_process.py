"""A process under a warden, as whoever started it holds it: its wire, its end, and letting go of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from methods.base.line_reader import PipeReader

WARDEN: Final = Path(__file__).with_name("warden.py")
BEAT_S: Final = 0.5
CLOSE_S: Final = 15.0
REPORT_LINE_BYTES: Final = 4096
F_SETPIPE_SZ: Final = 1031
PIPE_BYTES: Final = 1 << 20  # so that a reader that sleeps for a while keeps no program from writing


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How the process ended: its exit status or the signal that ended it; what it left behind and was killed.

    `refused`: what the system refused the warden, so that the process was not started or had to be killed.
    `containers_left`: commands that would end the containers which could not be ended.
    """

    exit: int | None = None
    signal: int | None = None
    left_behind: int = 0
    oom_kills: int | None = None
    refused: str = ""
    containers_left: Sequence[str] = ()

    def sentence(self) -> str:
        """The end in words, without a full stop."""
        if self.refused:
            return f"could not be supervised, because this system refuses what that takes ({self.refused})"
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = "unknown"
            return f"was killed by signal {self.signal} ({name})"
        if self.exit is not None:
            return f"exited with status {self.exit}"
        return "died together with its warden"


class WardedProcess:
    """Started at once; `lines` gives those of its wire, `end` is set once it and all its descendants are gone.

    `program` is the executable, by an absolute path, with its arguments; an argument that is `WIRE` is replaced by the
    wire's descriptor. Its stdout and stderr go to `output`: a log's path, the descriptor of a terminal (which becomes
    its stdin too), or None for the wire. A line of the wire is at most `line_limit` bytes. The folder `removed` is
    deleted at the end, even if this process is gone by then.
    """

    WIRE: Final = "{wire}"

    def __init__(
        self,
        program: Sequence[str],
        output: Path | int | None,
        variables: Mapping[str, str],
        cwd: Path,
        line_limit: int,
        removed: Path | None = None,
    ) -> None:
        lifeline_read, self._lifeline = os.pipe2(os.O_CLOEXEC)
        report_read, report_write = os.pipe2(os.O_CLOEXEC)
        wire_read, wire_write = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # beyond the user's share of pipe memory the default size has to do
            fcntl.fcntl(wire_write, F_SETPIPE_SZ, PIPE_BYTES)
        given = [str(wire_write) if argument == self.WIRE else argument for argument in program]
        descriptor = wire_write if output is None else output
        to = f"fd:{descriptor}" if isinstance(descriptor, int) else str(descriptor)
        passed = {lifeline_read, report_write, wire_write} | ({descriptor} if isinstance(descriptor, int) else set())
        log = None if isinstance(descriptor, int) else _log_of(descriptor)
        own = [*map(str, (lifeline_read, report_write, wire_write)), to, "" if removed is None else str(removed)]
        try:
            self._warden = subprocess.Popen(
                [sys.executable, "-IS", str(WARDEN), *own, *given],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=descriptor if isinstance(descriptor, int) else subprocess.DEVNULL if log is None else log,
                env=dict(variables),
                cwd=cwd,
                pass_fds=tuple(passed),
                start_new_session=True,
                umask=0o077,  # logs, compile caches, whatever an engine writes: the user's alone
            )
        except BaseException:
            for end in (self._lifeline, report_read, wire_read):
                os.close(end)
            raise
        finally:
            for end in (lifeline_read, report_write, wire_write):
                os.close(end)
            if log is not None:
                os.close(log)
        self.wire_descriptor, self.report_descriptor = wire_read, report_read
        self._wire = PipeReader(wire_read, line_limit)
        self._report = PipeReader(report_read, REPORT_LINE_BYTES)
        self.pid: int | None = None
        self.end: ProcessEnd | None = None

    @property
    def warden_pid(self) -> int:
        return self._warden.pid

    @property
    def oversized_lines(self) -> int:
        return self._wire.oversized

    @property
    def wire_ended(self) -> bool:
        return self._wire.ended

    def lines(self) -> list[bytes]:
        """Lines of the wire that are there now."""
        return self._wire.read()

    def lines_to_the_end(self) -> Iterator[bytes | None]:
        """The lines of the wire as they come, and None at least every half second without one, until `end` is set."""
        while self.end is None:
            _wait_for([self.report_descriptor, *([] if self.wire_ended else [self.wire_descriptor])], BEAT_S)
            self.look_after()
            yield from self.lines() or (None,)
        while not self.wire_ended and _wait_for([self.wire_descriptor], 0):  # what the pipe holds was said before
            yield from self.lines()
        if self._wire.rest:
            yield self._wire.rest

    def look_after(self) -> None:
        """Take in what the warden reports: sets `pid` and, at the end, `end` (empty where it was killed)."""
        for line in self._report.read():
            told = json.loads(line)
            if "pid" in told:
                self.pid = int(told["pid"])
            else:
                self.end = ProcessEnd(**told)
        if self._report.ended:
            self._warden.wait()
            self.end = self.end or ProcessEnd()

    def wait_for_start(self, within_s: float) -> int | None:
        """The program's process id; None where it is not there in time, or is over."""
        self._wait(lambda: self.pid is not None or self.end is not None, within_s)
        return self.pid

    def wait(self, within_s: float) -> ProcessEnd | None:
        """The end, None where it does not come in time."""
        self._wait(lambda: self.end is not None, within_s)
        return self.end

    def let_go(self) -> None:
        """Have the warden kill whatever is left; the end follows on the report."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def close(self) -> ProcessEnd:
        """Let go, wait for the warden's end (it is killed after 15 s), and close every descriptor."""
        self.let_go()
        deadline = time.monotonic() + CLOSE_S
        self.wait(CLOSE_S)
        try:
            self._warden.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._warden.kill()
            self._warden.wait()
        os.close(self.wire_descriptor)
        os.close(self.report_descriptor)
        return self.end or ProcessEnd()

    def _wait(self, over: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        self.look_after()
        while not over() and (left := deadline - time.monotonic()) > 0:
            _wait_for([self.report_descriptor], left)
            self.look_after()


def _log_of(path: Path) -> int | None:
    """The log's descriptor, for what the warden itself says; None where it cannot be opened."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return None


def _wait_for(descriptors: Sequence[int], within_s: float) -> bool:
    """Whether one of the pipes has something to read, or has ended, within the time."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN | select.POLLHUP)
    return bool(poller.poll(within_s * 1000))
