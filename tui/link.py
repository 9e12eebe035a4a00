"""How fast the terminal at the other end accepts output, and the driver that measures it.

A slow link is not seen in the program: what is written waits in the buffers of the pty, of sshd and of the network,
and the picture gets older and older. So every live frame is followed by a question that most terminals answer
(DECRQM for mode 2026, the same that Textual asks at its start), and the next frame is sent after the answer.
A terminal that has not answered the last one is judged by what its pty has accepted, and not asked until an answer
comes: one that does not know the question may print its last letter.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App

QUESTION = "\x1b[?2026$p"
ANSWER_DEADLINE_S = 3.0
SLOW_FRAME_S = 0.15
SLOWEST_INTERVAL_S = 0.5
HANG_UP_LOOK_MS = 1000


class Link:
    """Paces live frames: one on its way at a time, and a pause after it in proportion to how long it took."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sent: float | None = None
        self._free_at = 0.0
        self._queued = self._taken = 0
        self.answers = False  # whether it answered the last question
        self.frame_s = 0.0  # how long frames take to arrive, smoothed

    def queued(self, characters: int) -> None:
        """So much was handed to the thread that writes."""
        self._queued += characters

    def taken(self, characters: int) -> None:
        """So much was taken by the terminal's end of the pty (called from the thread that writes)."""
        self._taken += characters

    @property
    def backlog(self) -> int:
        """Characters that wait in this process."""
        return self._queued - self._taken

    def sent(self) -> None:
        """A live frame, and the question after it, is on its way."""
        self._sent = self._now()

    def answered(self) -> None:
        """The terminal answered a query: everything written before it has arrived."""
        self.answers = True
        if self._sent is not None:
            self._arrived(self._now() - self._sent)

    def _arrived(self, took: float) -> None:
        self._sent = None
        self.frame_s = took if took > self.frame_s else 0.7 * self.frame_s + 0.3 * took
        pause = self.frame_s if self.frame_s > SLOW_FRAME_S else 0.0
        self._free_at = self._now() + min(SLOWEST_INTERVAL_S, pause)

    def is_free(self) -> bool:
        """Whether another live frame may be sent now."""
        now = self._now()
        if self._sent is not None:
            waited = now - self._sent
            if not self.answers and self.backlog <= 0:
                self._arrived(waited)
            elif self.answers and waited > ANSWER_DEADLINE_S and self.backlog <= 0:
                self.answers = False
                self._arrived(waited)
        return self._sent is None and self.backlog <= 0 and now >= self._free_at


def link_of(app: App[Any]) -> Link:
    """The app's, or one of its own for an app that has none."""
    link: Link | None = getattr(app, "link", None)
    return link or Link()


class _CountedFile:
    """The terminal's output, counting what it has taken."""

    def __init__(self, file: IO[str], link: Link) -> None:
        self._file = file
        self._link = link
        self._unflushed = 0

    def write(self, text: str) -> int:
        self._unflushed += len(text)
        return self._file.write(text)

    def flush(self) -> None:
        self._file.flush()
        taken, self._unflushed = self._unflushed, 0
        self._link.taken(taken)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return self._file.isatty()


def _end_when_hung_up(terminal: int) -> None:
    """End this process once its terminal is gone, which SIGHUP does unless it is ignored (nohup, `trap '' HUP`).

    At once: there is nobody to tell and nothing to restore, and Textual's own threads would spin or wait for ever.
    """
    poller = select.poll()
    poller.register(terminal, 0)  # hang-ups are told in any case
    while not any(events & (select.POLLHUP | select.POLLNVAL) for _, events in poller.poll(HANG_UP_LOOK_MS)):
        pass
    os._exit(128 + signal.SIGHUP)


class AskingDriver(Driver):
    """What can be asked after a frame whether it has arrived; `link` paces the app by the answers."""

    link: Link

    def ask(self) -> None:
        """Query the terminal after everything written so far, if it is one that answers."""
        if self.link.answers:
            self.write(QUESTION)
        self.link.sent()


class PacedDriver(AskingDriver, LinuxDriver):
    """Textual's driver for Linux that tells the app's link what is written and what was taken."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.link = link_of(app)
        shown = self._file is not None and self._file.isatty()  # not with `kasoku 2>log`: Textual draws on stderr
        drawn_on = self._file if shown else sys.__stdout__
        self._file = _CountedFile(cast("IO[str]", drawn_on), self.link)  # type: ignore[assignment]

    def end_with_the_terminal(self) -> None:
        """From now on end this process once its terminal is gone."""
        threading.Thread(target=_end_when_hung_up, args=(self.fileno,), name="hang-up", daemon=True).start()

    def run_input_thread(self) -> None:
        """As Textual's, which ends at the first key of a terminal that does not speak UTF-8: that key is lost."""
        while True:
            try:
                super().run_input_thread()
            except UnicodeDecodeError:
                continue
            return

    # Textual leaves and takes the terminal within the handler of a signal, which may have interrupted a write whose
    # queue it then waits for without end. Between two callbacks of the loop nothing is held.

    def _sigtstp_application(self, *_: object) -> None:
        asyncio.get_running_loop().call_soon_threadsafe(super()._sigtstp_application)

    def _sigcont_application(self, *_: object) -> None:
        asyncio.get_running_loop().call_soon_threadsafe(super()._sigcont_application)

    def write(self, data: str) -> None:
        self.link.queued(len(data))
        super().write(data)
