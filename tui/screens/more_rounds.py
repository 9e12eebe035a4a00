"""More rounds, or the fidelity, for a session that has ended, from any screen that shows its verdicts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from textual.binding import Binding

from sessions.disk.session_folder import SessionError
from tui.screens.ask import Confirm
from tui.widgets.workbench_app import WorkbenchApp
from tui.words.offer_text import fidelity_question, question

if TYPE_CHECKING:
    from sessions.disk.extension import Extension


def more_binding(screen: str) -> Binding:
    """The key that offers them."""
    return Binding("m", "more", "more rounds", id=f"{screen}.more", tooltip="Add the rounds that a verdict needs")


def fidelity_binding(screen: str) -> Binding:
    """The key that offers what the methods lose."""
    return Binding(
        "f", "fidelity", "fidelity", id=f"{screen}.fidelity", tooltip="Measure what the methods lose, in one more round"
    )


async def add_rounds(app: WorkbenchApp, session: str, more: int) -> None:
    """Ask, extend the session by so many rounds, and follow it."""
    from sessions.disk.extension import Extension

    await _extend(app, session, question(session, more), Extension(blocks=more, more=True))


async def add_fidelity(app: WorkbenchApp, session: str) -> None:
    """Ask, extend the session by a round that scores its methods, and follow it."""
    from sessions.disk.extension import Extension

    await _extend(app, session, fidelity_question(session), Extension(fidelity=True))


async def _extend(app: WorkbenchApp, session: str, asked: str, extension: Extension) -> None:
    from sessions.run.launch import extend

    if not await app.push_screen_wait(Confirm(asked)):
        return
    try:
        folder = app.store.folder(session)
        await asyncio.to_thread(extend, folder, extension, app.home)
    except SessionError as error:
        app.notify(str(error), severity="error", markup=False, timeout=12)
    else:
        await app.watch_session(folder)
