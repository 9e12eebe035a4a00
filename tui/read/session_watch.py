"""A session watched from a thread: the journal is read there, and one immutable snapshot at a time comes out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessions.disk.host_file import host_of, is_lost
from sessions.disk.journal import JournalError
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.watch.following import Follower, Replayer
from tui.words.host_words import UNCARRIED

if TYPE_CHECKING:
    from sessions.disk.plan import Plan
    from sessions.watch.live import Live

POLL_BYTES = 128 << 10
POLL_S = 0.05
CATCH_UP_S = 0.25
REACH_S = 1.0
ABANDONED = "This session's conductor died early; what it measured is saved. Resume it from Sessions."
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@dataclass(frozen=True, slots=True)
class View:
    """What the screen shows at one moment. `problem` is a sentence if the session can no longer be followed.

    `closing`: the journal has its end, and the conductor is still writing the frames; then comes `over`. `lost`: the
    host that measures it is out of reach.
    """

    live: Live
    plan: Plan
    over: bool = False
    problem: str = ""
    rejected: int = 0
    gpu_names: Mapping[str, str] = field(default_factory=dict)
    closing: bool = False
    lost: bool = False


class SessionWatch:
    """Follows (or replays) one session until `close()`. Snapshots are made only when one was wanted and there is news.

    `deliver` is called from the thread with a View, or with a sentence where the session cannot be opened at all.
    """

    def __init__(
        self, folder: SessionFolder, deliver: Callable[[SessionWatch, View | str], None], replay: bool
    ) -> None:
        self.folder = folder
        self.replay = replay
        self.paused = False
        self._slot: int | None = None
        self._speed = SPEEDS.index(1.0)
        self._deliver = deliver
        self._wanted = threading.Event()
        self._wanted.set()
        self._moved = self._closing = self._lost = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {folder.id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def want(self) -> None:
        """The last view has been shown: another is welcome."""
        self._wanted.set()

    def look_into(self, slot: int | None) -> None:
        """Show the text of the request in this slot, where several are in flight; None: of the one longest there."""
        self._slot = slot

    def close(self) -> None:
        """End the thread soon; it delivers nothing more."""
        self._closed.set()

    @property
    def speed(self) -> float:
        """The speed factor of a replay."""
        return SPEEDS[self._speed]

    def change_speed(self, steps: int) -> None:
        self._speed = max(0, min(len(SPEEDS) - 1, self._speed + steps))

    # In the thread

    def _run(self) -> None:
        try:
            self._replay() if self.replay else self._follow()
        except (SessionError, JournalError) as error:
            self._send(str(error))
        except Exception as error:  # a thread's last resort
            self._send(f"The session can no longer be followed: {type(error).__name__}: {error}")

    def _send(self, what: View | str) -> None:
        if not self._closed.is_set():
            self._deliver(self, what)

    def _follow(self) -> None:
        follower = Follower(self.folder)
        names: dict[str, str] = {}
        news, looked = True, self._slot
        hosted, reach_at = host_of(self.folder.path) is not None, 0.0
        while not self._closed.is_set():
            behind = self._take_in(follower)
            closing = follower.ended and self.folder.is_live()  # the conductor writes the frames before it goes
            over = (follower.ended or follower.abandoned) and not behind and not closing
            if over and not follower.ended and follower.poll(POLL_BYTES):
                follower.abandoned = False  # its last lines came between the read and the look at the lock
                continue
            news = news or behind or self._moved
            if closing and not self._closing:
                self._closing = news = True
            if looked != self._slot:
                looked, news = self._slot, True
                follower.look_into(looked)
            if hosted and time.monotonic() >= reach_at:
                reach_at = time.monotonic() + REACH_S
                if self._lost != is_lost(self.folder.path):
                    self._lost, news = not self._lost, True
            if over or (news and self._wanted.is_set()):
                live = follower.snapshot()
                names = names or self._gpu_names(live.gpus)
                self._wanted.clear()
                news = False
                abandoned = UNCARRIED if hosted else ABANDONED
                problem = abandoned if over and not follower.ended else ""
                lost = self._lost and not over
                self._send(View(live, follower.plan, over, problem, follower.rejected, names, closing, lost))
            if over:
                return
            if not behind:
                self._closed.wait(POLL_S)

    def _take_in(self, follower: Follower) -> bool:
        """Read what is there, for a moment at most; True where there may be more."""
        self._moved = False
        until = time.monotonic() + CATCH_UP_S
        while follower.poll(POLL_BYTES):
            self._moved = True
            if time.monotonic() > until:
                return True
        return False

    def _replay(self) -> None:
        replayer = Replayer(self.folder)
        names: dict[str, str] = {}
        last = time.monotonic()
        news, looked = True, self._slot
        while not self._closed.is_set():
            now = time.monotonic()
            if not self.paused:
                replayer.advance((now - last) * self.speed)
                news = True
            last = now
            if looked != self._slot:
                looked, news = self._slot, True
                replayer.look_into(looked)
            if news and (self._wanted.is_set() or replayer.ended):
                live = replayer.snapshot()
                names = names or self._gpu_names(live.gpus)
                self._wanted.clear()
                news = False
                self._send(View(live, replayer.plan, replayer.ended, gpu_names=names))
                if replayer.ended:
                    return
            self._closed.wait(POLL_S)

    def _gpu_names(self, gpus: tuple[str, ...]) -> dict[str, str]:
        """The GPUs' product names by telemetry source, as far as the machine capture has them."""
        if not gpus:
            return {}
        try:
            machine = self.folder.read().machine
        except SessionError:
            return {}
        named = {gpu.source: gpu.name for gpu in machine.gpus if gpu.name}
        return {gpu: named[gpu] for gpu in gpus if gpu in named}
