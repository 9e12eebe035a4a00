"""The conductor's side of the preparation: a child under a warden, whose records are journalled as they arrive."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from typing import Final

import msgspec

from methods.base.log_tail import log_tail
from methods.base.warded_process import WardedProcess
from methods.base.warden import kill_descendants
from sessions.device.affinity import ALLOWED, starting_on
from sessions.disk.journal import LINE_LIMIT_BYTES
from sessions.disk.records import AnyRecord, Phase, Prepared, ReferenceScored, decoder
from sessions.disk.session_folder import SessionFolder
from sessions.run.block_run import TICK_S
from sessions.run.own_process import own_process

PREPARATION: Final = "sessions.run.preparation"
END_S: Final = 10.0


class PreparationRun:
    """`carry_out()` gives what was prepared, or None: then `error` is the sentence, empty where it was stopped."""

    def __init__(
        self, folder: SessionFolder, append: Callable[[AnyRecord], None], every_tick: Callable[[], str]
    ) -> None:
        self._folder, self._append, self._every_tick = folder, append, every_tick
        self._decoder = decoder()
        self._prepared: Prepared | None = None
        self.error = ""

    def carry_out(self) -> Prepared | None:
        """Until the child and all it started are gone."""
        log = self._folder.path / "logs" / "preparation.log"
        with starting_on(ALLOWED):  # nothing is measured yet
            process = WardedProcess(
                own_process(PREPARATION, str(self._folder.path), WardedProcess.WIRE),
                log,
                os.environ,
                cwd=self._folder.path,
                line_limit=LINE_LIMIT_BYTES,
            )
        stopped = False
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.wire_descriptor, selectors.EVENT_READ)
                while not process.wire_ended and not stopped:  # what the pipe holds at the child's end is read too
                    for _ in selector.select(TICK_S):
                        self._take(process.lines())
                    stopped = bool(self._every_tick())
            deadline = time.monotonic() + END_S
            while not stopped and process.wait(TICK_S) is None and time.monotonic() < deadline:
                stopped = bool(self._every_tick())
        finally:
            end = process.close()
            kill_descendants()
        if stopped:
            return None
        if self._prepared is None and not self.error and process.oversized_lines:
            self.error = "The prompt exceeds what a session can store, about a million tokens: shorten it."
        if self._prepared is None and not self.error:
            tail = log_tail(log)
            said = f": {tail[-1]}" if tail else ""
            self.error = f"The preparation {end.sentence()}{said}"
        return self._prepared if not self.error else None

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                record = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            match record:
                case Prepared():
                    self._prepared = record
                case Phase(state="failed"):
                    self.error = record.detail
                case Phase() | ReferenceScored():
                    pass
                case _:
                    continue
            self._append(record)
