"""What can be picked for a comparison: the methods of all saved sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sessions.disk.listing import SessionRow
from tui.words.terminal_text import one_line


@dataclass(frozen=True, slots=True)
class Pick:
    """A method of a session as the list of picks shows it."""

    session: str
    name: str
    created_ns: int
    model: str
    method: str
    shared: bool = False  # of a team's store

    @property
    def when(self) -> str:
        """The session's name, or its time and model where it has none; before it, that it is a team's."""
        of = "store · " if self.shared else ""
        if self.name:
            return of + one_line(self.name, 60)
        when = datetime.fromtimestamp(self.created_ns / 1e9).astimezone()
        return f"{of}{when:%m-%d %H:%M} {one_line(self.model, 40)}"

    @property
    def key(self) -> str:
        return f"{self.session}:{self.method}"


def picks_of(listed: Sequence[SessionRow]) -> list[Pick]:
    """Session by session, in their order."""
    return [
        Pick(row.id, row.name, row.created_ns, row.model, method, bool(row.store))
        for row in listed
        for method in row.methods
    ]
