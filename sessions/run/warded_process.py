"""A process under a warden, as the conductor holds it: its wire, its end, and letting go of it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from methods.base.line_reader import PipeReader
from sessions.run.wire import LINE_LIMIT_BYTES

WARDEN: Final = Path(__file__).with_name("warden.py")
F_SETPIPE_SZ: Final = 1031
PIPE_BYTES: Final = 1 << 20  # so that a conductor that sleeps for a while keeps no runner from writing


class ProcessEnd(msgspec.Struct, frozen=True):
    """How the process ended: its exit status or the signal that ended it; what it left behind and was killed."""

    exit: int | None = None
    signal: int | None = None
    left_behind: int = 0
    oom_kills: int | None = None

    def sentence(self) -> str:
        """The end in words, without a full stop."""
        if self.signal is not None:
            try:
                name = signal.Signals(self.signal).name
            except ValueError:
                name = "unknown"
            return f"was ended by signal {self.signal} ({name})"
        if self.exit is not None:
            return f"ended with exit status {self.exit}"
        return "ended together with its warden"


class WardedProcess:
    """Started at once; `wire` gives its lines, `end` is set once it and all its descendants are gone.

    `program` is the executable with its arguments; an argument that is `WIRE` is replaced by the wire's descriptor.
    """

    WIRE: Final = "{wire}"

    def __init__(
        self,
        program: Sequence[str],
        log: Path,
        variables: Mapping[str, str],
        cwd: Path,
        line_limit: int = LINE_LIMIT_BYTES,
    ) -> None:
        lifeline_read, self._lifeline = os.pipe2(os.O_CLOEXEC)
        report_read, report_write = os.pipe2(os.O_CLOEXEC)
        wire_read, wire_write = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # beyond the user's share of pipe memory the default size has to do
            fcntl.fcntl(wire_write, F_SETPIPE_SZ, PIPE_BYTES)
        given = [str(wire_write) if argument == self.WIRE else argument for argument in program]
        fixed = [str(lifeline_read), str(report_write), str(wire_write), str(log)]
        self._warden = subprocess.Popen(
            [sys.executable, "-I", str(WARDEN), *fixed, *given],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(variables),
            cwd=cwd,
            pass_fds=(lifeline_read, report_write, wire_write),
            start_new_session=True,
            umask=0o077,  # logs, compile caches, whatever an engine writes: the user's alone
        )
        for descriptor in (lifeline_read, report_write, wire_write):
            os.close(descriptor)
        self.wire_descriptor, self.report_descriptor = wire_read, report_read
        self._wire = PipeReader(wire_read, line_limit)
        self._report = PipeReader(report_read, LINE_LIMIT_BYTES)
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

    def look_after(self) -> None:
        """Take in what the warden reports: sets `pid` and, at the end, `end` (empty where it was killed)."""
        for line in self._report.read():
            with contextlib.suppress(ValueError, msgspec.ValidationError):
                told = json.loads(line)
                if "pid" in told:
                    self.pid = int(told["pid"])
                else:
                    self.end = msgspec.convert(told, ProcessEnd)
        if self._report.ended:
            self._warden.wait()
            self.end = self.end or ProcessEnd()

    def let_go(self) -> None:
        """Have the warden kill whatever is left; the end follows on the report."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def close(self, within_s: float = 15.0) -> ProcessEnd:
        """Let go, wait for the warden's last word (it is killed after `within_s`), and close every descriptor."""
        self.let_go()
        deadline = time.monotonic() + within_s
        os.set_blocking(self.report_descriptor, False)
        while not self._over() and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self._over():
            self._warden.kill()
            self._warden.wait()
        os.close(self.wire_descriptor)
        os.close(self.report_descriptor)
        return self.end or ProcessEnd()

    def _over(self) -> bool:
        self.look_after()
        return self.end is not None
