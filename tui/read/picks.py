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

    @property
    def when(self) -> str:
        """The session's name, or its time and model where it has none."""
        if self.name:
            return one_line(self.name, 60)
        when = datetime.fromtimestamp(self.created_ns / 1e9).astimezone()
        return f"{when:%m-%d %H:%M} {one_line(self.model, 40)}"

    @property
    def key(self) -> str:
        return f"{self.session}:{self.method}"


def picks_of(listed: Sequence[SessionRow]) -> list[Pick]:
    """Session by session, in their order."""
    return [Pick(row.id, row.name, row.created_ns, row.model, method) for row in listed for method in row.methods]
