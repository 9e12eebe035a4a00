"""How often a followed session is drawn: on a small machine each picture is taken from the runner."""

from __future__ import annotations

import io
import os
import threading
from itertools import islice
from pathlib import Path

import pytest
from rich.console import Console

from sessions.disk.journal import JournalWriter
from sessions.disk.session_folder import create
from sessions.watch.following import Follower
from sessions.watch.live import Live
from tests.tui.journals import Script, make_plan
from tui.commands import following
from tui.print.progress_view import ProgressView


def test_a_journal_that_never_rests_is_drawn_once_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(("baseline",), requests=2, blocks=1)
    folder, lock = create(tmp_path / "sessions", plan)
    journal = JournalWriter(folder.path)
    records = Script(plan, folder.id).records()
    held = [lock]
    slept: list[float] = []
    shown: list[Live] = []

    def sleep(seconds: float) -> None:
        """In each frame's time the conductor writes three records; after the last it lets go of the session."""
        slept.append(seconds)
        written = list(islice(records, 3))
        for record in written:
            journal.append(record)
        if not written and held:
            os.close(held.pop())

    monkeypatch.setattr("tui.commands.following.time.sleep", sleep)
    monkeypatch.setattr(ProgressView, "show", lambda _, live: shown.append(live))
    assert not following.watch(folder, ctrl_c_stops=False, quiet=False)
    assert set(slept) == {following.FRAME_S}
    assert 10 < len(shown) < len(slept)
    assert shown[-1].status == "finished"


def test_a_picture_is_drawn_when_it_is_shown_and_by_nobody_else(tmp_path: Path) -> None:
    plan = make_plan(("baseline",), requests=1, blocks=1)
    folder, lock = create(tmp_path / "sessions", plan)
    os.close(lock)
    live = Follower(folder).snapshot()
    terminal, before = io.StringIO(), threading.active_count()
    with ProgressView(Console(file=terminal, force_terminal=True, width=100)) as view:
        view.show(live)
        assert folder.id in terminal.getvalue()
        assert threading.active_count() == before
