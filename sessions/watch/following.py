"""Following a session: its journal from the start, then what is appended, as a live state; or replaying one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sessions.disk.journal import JournalTail
from sessions.disk.plan import Plan
from sessions.disk.records import AnyRecord, SessionEnded
from sessions.disk.session_folder import SessionFolder
from sessions.verdict.statistics import CONFIDENCE, LEAST_BLOCKS, t_quantile
from sessions.watch.current_request import Decoder
from sessions.watch.live import Live
from sessions.watch.reducer import LiveReducer


def open_decoder(model_folder: str) -> Callable[[], Decoder] | None:
    """A maker of incremental decoders for a prepared model's folder; None where no tokeniser can be read."""
    from methods.text.tokeniser import Tokeniser, TokeniserError

    try:
        tokeniser = Tokeniser(Path(model_folder))
    except TokeniserError:
        return None
    return lambda: tokeniser.stream().feed


class Follower:
    """Reads what a journal has gained and keeps the live state. Memory is bounded: no record is kept.

    `poll()` reads at most `limit_bytes` and says whether there was anything; `ended` is true once the session is over
    (or its conductor is gone, which the live status then says).
    """

    def __init__(self, folder: SessionFolder, plan: Plan | None = None) -> None:
        self.folder = folder
        self.plan = plan or folder.plan()
        self._tail = JournalTail(folder.journal)
        self._reducer = LiveReducer(self.plan, folder.id, open_decoder)
        self.ended = False
        self.abandoned = False
        if self.plan.blocks >= LEAST_BLOCKS:
            t_quantile(CONFIDENCE, LEAST_BLOCKS - 1)  # the first takes a core a while: now, not beside a timed block

    def poll(self, limit_bytes: int = 1 << 20) -> bool:
        """Read what is there now; True if there was anything. Raises JournalError, SessionError where its folder is
        gone."""
        before = self._tail.offset
        for record in self._tail.read(limit_bytes):
            self.ended = isinstance(record, SessionEnded)
            self._reducer.feed(record)
        moved = self._tail.offset != before
        self.abandoned = not moved and not self.ended and not self.folder.is_live()
        if self.abandoned:
            self.folder.refuse_gone()
        return moved

    @property
    def rejected(self) -> int:
        """Lines of the journal that were not records."""
        return self._tail.rejected

    def look_into(self, slot: int | None) -> None:
        """As of LiveReducer."""
        self._reducer.look_into(slot)

    def snapshot(self) -> Live:
        """The live state as of the last poll."""
        return self._reducer.snapshot(abandoned=self.abandoned and not self.ended)


class Replayer:
    """Replays a saved journal: `advance(seconds)` feeds what happened in that much time."""

    def __init__(self, folder: SessionFolder, plan: Plan | None = None) -> None:
        self.folder = folder
        self.plan = plan or folder.plan()
        self._tail = JournalTail(folder.journal)
        self._reducer = LiveReducer(self.plan, folder.id, open_decoder)
        self._waiting: list[AnyRecord] = []
        self._now_ns: int | None = None
        self.ended = False

    def advance(self, seconds: float) -> None:
        """Move the session's clock on and feed the records up to then. Pauses of a resumed session are jumped over."""
        while not self.ended:
            if not self._waiting:
                offset = self._tail.offset
                self._waiting = self._tail.read(1 << 18)[::-1]
                if not self._waiting:
                    self.ended = self._tail.offset == offset
                    continue
            due = self._waiting[-1].t
            if self._now_ns is None or due < self._now_ns - 60_000_000_000 or due > self._now_ns + 60_000_000_000:
                self._now_ns = due
            if due > self._now_ns + int(seconds * 1e9):
                break
            self._reducer.feed(self._waiting.pop())
        if self._now_ns is not None:
            self._now_ns += int(seconds * 1e9)

    def look_into(self, slot: int | None) -> None:
        """As of LiveReducer."""
        self._reducer.look_into(slot)

    def snapshot(self) -> Live:
        """The live state at the session's clock."""
        return self._reducer.snapshot()
