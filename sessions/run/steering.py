"""What viewers ask of a running session: request files in its folder, read at 5 Hz; SIGTERM says stop too."""

from __future__ import annotations

import re
import signal
import time
from typing import Final

from sessions.disk.session_folder import SessionFolder

INTERVAL_S: Final = 0.2
SKIP: Final = re.compile(r"skip-(?P<method>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<block>\d{1,6})")


class Steering:
    """Looks for request files; `stop` stays set, skips are kept until their block comes."""

    def __init__(self, folder: SessionFolder) -> None:
        self._folder = folder
        self._due = 0.0
        self.stop = False
        self.skips: set[tuple[str, int]] = set()

    def obey_sigterm(self) -> None:
        """Have SIGTERM mean stop, and SIGINT and SIGHUP nothing: a terminal's end does not end a measurement."""

        def stop(*_: object) -> None:
            self.stop = True

        signal.signal(signal.SIGTERM, stop)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def look(self) -> list[tuple[str, str | None, int | None]]:
        """The requests that are new, as (action, method, block); at most one look at the folder in 0.2 s."""
        if time.monotonic() < self._due:
            return []
        self._due = time.monotonic() + INTERVAL_S
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
