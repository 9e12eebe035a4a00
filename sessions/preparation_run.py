"""The conductor's side of the preparation: a child under a warden, whose records go into the journal as they come."""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections.abc import Callable

import msgspec

from sessions.block_run import TICK_S, log_tail
from sessions.records import AnyRecord, Phase, Prepared
from sessions.session_folder import SessionFolder
from sessions.warded_process import WardedProcess
from sessions.warden import kill_descendants


class PreparationRun:
    """`carry_out()` gives what was prepared, or None: then `error` is the sentence, empty where it was stopped."""

    def __init__(
        self, folder: SessionFolder, append: Callable[[AnyRecord], None], every_tick: Callable[[], str]
    ) -> None:
        self._folder, self._append, self._every_tick = folder, append, every_tick
        self._decoder = msgspec.json.Decoder(Phase | Prepared)
        self._prepared: Prepared | None = None
        self.error = ""

    def carry_out(self) -> Prepared | None:
        """Until the child and all it started are gone."""
        log = self._folder.path / "logs" / "preparation.log"
        process = WardedProcess(
            [sys.executable, "-P", "-m", "sessions.preparation", str(self._folder.path), WardedProcess.WIRE],
            log,
            os.environ,
            cwd=self._folder.path,
        )
        stopped = False
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(process.wire_descriptor, selectors.EVENT_READ)
                while not process.wire_ended and not stopped:
                    for _ in selector.select(TICK_S):
                        self._take(process.lines())
                    process.look_after()
                    if process.verdict is not None:
                        self._take(process.lines())
                        break
                    stopped = bool(self._every_tick())
                waited = time.monotonic()
                while process.verdict is None and not stopped and time.monotonic() < waited + 10:
                    process.look_after()
                    stopped = bool(self._every_tick())
                    time.sleep(0.01)
        finally:
            verdict = process.close()
            kill_descendants()
        if stopped:
            return None
        if self._prepared is None and not self.error:
            tail = log_tail(log)
            said = f": {tail[-1]}" if tail else ""
            self.error = f"The preparation {verdict.sentence()}{said}"
        return self._prepared if not self.error else None

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            try:
                record = self._decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(record, Prepared):
                self._prepared = record
            elif record.state == "failed":
                self.error = record.detail
            self._append(record)
