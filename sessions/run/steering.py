"""Viewers' requests to a running session: files in its folder, polled at 5 Hz; SIGTERM means stop too."""

from __future__ import annotations

import re
import signal
import time
from typing import Final

from sessions.disk.session_folder import SessionFolder

INTERVAL_S: Final = 0.2
SKIP: Final = re.compile(r"skip-(?P<method>[A-Za-z0-9][A-Za-z0-9._@-]*)-(?P<block>\d{1,6})")


class Steering:
    """Looks for request files; `stop` stays set, skips are kept until their block comes."""

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder
        self._due = 0.0
        self.stop = False
        self.skips: set[tuple[str, int]] = set()

    def obey_sigterm(self) -> None:
        """Make SIGTERM mean stop, and ignore SIGINT and SIGHUP: closing a terminal does not end a measurement."""

        def stop(*_: object) -> None:
            self.stop = True

        signal.signal(signal.SIGTERM, stop)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def ends_with(self, status: str) -> bool:
        """Whether the session ends with a block that ended so: by request, rather than by the time allowed."""
        return status == "stopped" and self.stop

    def look(self) -> list[tuple[str, str | None, int | None]]:
        """The new requests, as (action, method, block); reads the folder at most every 0.2 s.

        Raises SessionError where the folder is gone: what the session would write then would begin another home.
        """
        if time.monotonic() < self._due:
            return []
        self._due = time.monotonic() + INTERVAL_S
        self._folder.refuse_gone()
        taken: list[tuple[str, str | None, int | None]] = []
        for name in self._folder.take_asked():
            if name == "stop":
                self.stop = True
                taken.append(("stop", None, None))
            elif match := SKIP.fullmatch(name):
                skip = (match["method"], int(match["block"]))
                self.skips.add(skip)
                taken.append(("skip", *skip))
        return taken
