"""More rounds for a session that has ended, from any screen that shows its verdicts."""

from __future__ import annotations

import asyncio

from textual.binding import Binding

from sessions.disk.session_folder import SessionError
from tui.screens.ask import Confirm
from tui.widgets.workbench_app import WorkbenchApp
from tui.words.offer_text import question


def more_binding(screen: str) -> Binding:
    """The key that offers them."""
    return Binding("m", "more", "more rounds", id=f"{screen}.more", tooltip="Add the rounds that a verdict needs")


async def add_rounds(app: WorkbenchApp, session: str, more: int) -> None:
    """Ask, extend the session by so many rounds, and follow it."""
    from sessions.disk.extension import Extension
    from sessions.run.launch import extend

    if not await app.push_screen_wait(Confirm(question(session, more))):
        return
    try:
        folder = app.store.folder(session)
        await asyncio.to_thread(extend, folder, Extension(blocks=more, more=True), app.home)
    except SessionError as error:
        app.notify(str(error), severity="error", markup=False, timeout=12)
    else:
        await app.watch_session(folder)
