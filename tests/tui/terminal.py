"""A program in a pseudo-terminal: what it writes is recorded with its time, and shown by a terminal emulator."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyte

QUESTION, ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"
UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p")
POLL_S = 0.02


@dataclass(frozen=True)
class Frame:
    """What the screen showed from a moment on (seconds of time.perf_counter)."""

    at: float
    lines: list[str]


class Terminal:
    """A pty of a size, read at full speed or as slowly as `bytes_s` says.

    It answers the question about mode 2026, unless `answers` is false.
    `live` keeps an emulated screen up to date while the program runs; without it `frames()` works it out afterwards.
    """

    def __init__(
        self, columns: int, rows: int, *, bytes_s: float | None = None, live: bool = True, answers: bool = True
    ) -> None:
        self._answers = answers
        self.columns, self.rows, self.bytes_s = columns, rows, bytes_s
        self.chunks: list[tuple[float, bytes]] = []
        self.began = 0.0
        self.pid = 0
        self.status: int | None = None
        self._player = _Player(columns, rows) if live else None
        self._lock = threading.Lock()

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Begin the program with the pty as its terminal."""
        self.began = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            for number in (
                signal.SIGINT,
                signal.SIGHUP,
            ):  # ignored where the tests are a background job, or under nohup
                signal.signal(number, signal.SIG_DFL)
            os.execvpe(command[0], list(command), dict(environment))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        tail = b""
        while True:
            try:
                chunk = os.read(self._fd, 65536 if self.bytes_s is None else 512)
            except OSError:
                return
            if not chunk:
                return
            if self.bytes_s is not None:
                time.sleep(len(chunk) / self.bytes_s)
            with self._lock:
                self.chunks.append((time.perf_counter(), chunk))
                if self._player is not None:
                    self._player.play(chunk)
            if not self._answers:
                continue
            seen = tail + chunk
            for _ in range(seen.count(QUESTION)):
                os.write(self._fd, ANSWER)
            tail = seen.rpartition(QUESTION)[2][-(len(QUESTION) - 1) :]

    def press(self, *keys: bytes) -> float:
        """Type; the moment after it."""
        for key in keys:
            os.write(self._fd, key)
        return time.perf_counter()

    def press_each(self, *keys: bytes, quiet_s: float = 0.15, deadline_s: float = 10) -> None:
        """Type as a person does who looks: each key when the screen has answered the one before and stands still."""
        for key in keys:
            at = self.press(key)
            until = at + deadline_s
            while True:
                last = self.chunks[-1][0] if self.chunks else 0.0
                now = time.perf_counter()
                if (last > at and now - last > quiet_s) or now > until:
                    break
                time.sleep(POLL_S)

    def lines(self) -> list[str]:
        """What the screen shows now."""
        assert self._player is not None
        with self._lock:
            return list(self._player.lines)

    def wait_for(self, seen: Callable[[str], object], deadline_s: float, what: str) -> str:
        """The screen's text once `seen` is true of it; an AssertionError with the screen after the deadline."""
        until = time.monotonic() + deadline_s
        while True:
            text = "\n".join(self.lines())
            if seen(text):
                return text
            if time.monotonic() > until or self.status is not None:
                raise AssertionError(f"never saw {what}; the screen was:\n{text}")
            self._look()
            time.sleep(POLL_S)

    def _look(self) -> None:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)

    def wait_until_sent(self, words: bytes, deadline_s: float) -> bool:
        """Whether these bytes were sent before the deadline."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            if words in b"".join(chunk for _, chunk in self.chunks[-400:]):
                return True
            time.sleep(POLL_S)
        return False

    def wait_until_ended(self, deadline_s: float) -> int:
        """The exit status of the program; an AssertionError after the deadline."""
        until = time.monotonic() + deadline_s
        while self.status is None:
            assert time.monotonic() < until, "the program did not end; the screen was:\n" + "\n".join(self.lines())
            self._look()
            time.sleep(POLL_S)
        return self.status

    def let_go(self) -> None:
        """Close the terminal, which the kernel tells the program."""
        os.close(self._fd)

    def hang_up(self) -> None:
        """What happens to the program when its terminal is closed."""
        if self.status is None:
            os.kill(self.pid, signal.SIGHUP)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self._fd)

    def written(self, start: float, end: float) -> int:
        """Bytes that arrived between two moments."""
        return sum(len(chunk) for at, chunk in self.chunks if start <= at < end)

    def frames(self) -> list[Frame]:
        """Play all that was recorded; a frame for each chunk."""
        player = _Player(self.columns, self.rows)
        shown = []
        for at, chunk in list(self.chunks):
            player.play(chunk)
            shown.append(Frame(at, list(player.lines)))
        return shown


class _Player:
    """A terminal emulator and the lines of its screen."""

    def __init__(self, columns: int, rows: int) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._columns = columns
        self.lines = [""] * rows

    def play(self, chunk: bytes) -> None:
        self._stream.feed(UNKNOWN_TO_PYTE.sub(b"", chunk))
        for row in self._screen.dirty:
            self.lines[row] = "".join(self._screen.buffer[row][column].data for column in range(self._columns))
        self._screen.dirty.clear()
