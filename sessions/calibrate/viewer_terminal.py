"""A viewer in a pseudo-terminal whose output is thrown away: what `kasoku calibrate` measures the cost of.

It can be stopped and let go on by signal, so that one process is there or not there from one request to the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

import psutil

from sessions.run.warden import PR_SET_PDEATHSIG

CHUNK: Final = 65_536
SLOW_CHUNK: Final = 512
LAST_BYTES: Final = 300
END_S: Final = 5.0
# Stopped as it may be, a viewer must not outlive who started it: PR_SET_PDEATHSIG holds through exec.
DYING_WITH_PARENT: Final = (
    "import ctypes, os, signal, sys;"
    f" ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGKILL); os.execv(sys.argv[1], sys.argv[1:])"
)


class ViewerTerminal:
    """Starts `command`, its program by path, on a terminal of `columns` × `rows`.

    `bytes_s` is how many bytes a second the terminal takes; None: as they come.
    """

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        columns: int = 160,
        rows: int = 48,
        bytes_s: float | None = None,
    ) -> None:
        self._bytes_s = bytes_s
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.set_inheritable(self._master, False)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", DYING_WITH_PARENT, *command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
                start_new_session=True,
            )
        finally:
            os.close(slave)
        self._last = b""
        threading.Thread(target=self._throw_away, daemon=True).start()

    def _throw_away(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, CHUNK if self._bytes_s is None else SLOW_CHUNK)
            except OSError:
                return
            if not chunk:
                return
            self._last = chunk
            if self._bytes_s is not None:
                time.sleep(len(chunk) / self._bytes_s)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def last_words(self) -> str:
        """The end of what it wrote, without control characters: for the case that it ended."""
        return "".join(c if c.isprintable() else " " for c in self._last[-LAST_BYTES:].decode(errors="replace")).strip()

    def rest(self) -> None:
        """Stop it where it is."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """CPU seconds that it has used, in user and kernel mode."""
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def close(self) -> None:
        """End it."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGHUP)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
