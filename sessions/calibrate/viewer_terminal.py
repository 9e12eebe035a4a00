"""A viewer in a pseudo-terminal whose output is discarded: `kasoku calibrate` measures what it costs.

It is stopped and continued by signal, so that it can be switched on and off between requests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from methods.base.warded_process import WardedProcess

CHUNK: Final = 65_536
SLOW_CHUNK: Final = 512
LAST_BYTES: Final = 300
LINE_BYTES: Final = 4096
START_S: Final = 10.0
END_S: Final = 5.0


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
            self._process = WardedProcess(
                command,
                slave,
                {**environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"},
                Path("/"),  # as it is there, whatever became of the current folder
                LINE_BYTES,
            )
        finally:
            os.close(slave)
        self._last = b""
        self._process.wait_for_start(START_S)
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
        self._process.look_after()
        return self._process.end is None

    def last_words(self) -> str:
        """The end of its output, without control characters: for when it has exited."""
        return "".join(c if c.isprintable() else " " for c in self._last[-LAST_BYTES:].decode(errors="replace")).strip()

    def rest(self) -> None:
        """Stop it where it is."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def cpu_s(self) -> float:
        """CPU seconds that it has used, in user and kernel mode."""
        if self._process.pid is None:
            return 0.0
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except (psutil.Error, OSError):
            return 0.0
        return float(times.user + times.system)

    def close(self) -> None:
        """End it."""
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGHUP)
        self._process.wait(END_S)
        self._process.close()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _signal(self, number: signal.Signals) -> None:
        if self.alive and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
