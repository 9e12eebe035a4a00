"""What screens and widgets may ask of the app that holds them: tui/app.py implements it, and imports the screens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import App

if TYPE_CHECKING:
    from pathlib import Path

    from sessions.disk.session_folder import SessionFolder
    from sessions.disk.store import Store
    from tui.link import Link
    from tui.settings import Settings


class WorkbenchApp(App[None]):
    """`watch_first` is the id of a session to follow from the start (or, with `replay_first`, to replay,
    `faster_first` steps faster than it was)."""

    home: Path
    config: Path
    settings: Settings
    link: Link
    watch_first: str | None
    replay_first: bool
    faster_first: int

    @property
    def store(self) -> Store:
        """All saved sessions."""
        raise NotImplementedError

    async def watch_session(self, folder: SessionFolder, *, replay: bool = False) -> None:
        """Bring the Run screen to the front, following this session or replaying it."""
        raise NotImplementedError

    async def compare_sessions(self, sessions: list[str], method: str | None = None) -> None:
        """Bring the Compare screen to the front with these sessions (or one method of them) picked."""
        raise NotImplementedError

    def open_session(self, session: str) -> None:
        """Open a session in full, on top of the screen in front."""
        raise NotImplementedError

    async def create_environment(self, name: str) -> None:
        """Bring the Methods screen to the front, creating this environment."""
        raise NotImplementedError

    def leave(self) -> None:
        """Quit the app, then say how to return to a running session."""
        raise NotImplementedError

    def ask_after_display(self) -> None:
        """Query the terminal after the next frame, so that the one after it can be paced."""
        raise NotImplementedError

    def report_failure(self, what: str, error: BaseException | None) -> None:
        """Say in a sentence that a background task failed; the rest of what is known goes to a log."""
        raise NotImplementedError
