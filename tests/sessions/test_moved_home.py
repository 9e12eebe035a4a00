"""A home that is moved while a session runs: both sides say so, its old place stays empty, and the rest can be run."""

from __future__ import annotations

import os

import pytest

from sessions.disk.session_folder import SessionError, SessionFolder, create
from sessions.watch.following import Follower
from tests.sessions.processes import until
from tests.sessions.soundness import assert_completed
from tests.sessions.workplace import Workplace, conductor_now, records_of


@pytest.mark.timeout(120)
def test_a_moved_home_ends_its_session_and_is_not_made_again(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    work.method("one", rate=20.0)
    folder = work.launch("one", blocks=2, requests=2, max_new_tokens=40)
    follower = Follower(folder)
    until(lambda: any(record.__class__.__name__ == "Tokens" for record in records_of(folder)), "it measures")
    conductor = conductor_now(folder)
    assert conductor is not None
    moved = work.home.rename(work.home.with_name("moved"))

    def said() -> str:
        try:
            follower.poll()
        except SessionError as error:
            return str(error)
        return ""

    until(lambda: bool(said()), "its viewer says what happened")
    assert "is gone" in said()
    assert "never started" not in said()
    with pytest.raises(SessionError, match="is gone"):
        folder.ask("stop")
    conductor.wait(30)
    assert not work.home.exists(), sorted(work.home.rglob("*"))

    monkeypatch.setenv("KASOKU_HOME", str(moved))
    there = Workplace(moved, work.config, work.model)
    shown = there.command("show", folder.id)
    assert shown.code == 0, shown.err
    assert "is gone" in shown.out
    found = SessionFolder(moved / "sessions" / folder.id)
    there.resume(found)
    assert_completed(found)


def test_a_command_that_follows_a_session_whose_folder_goes_says_so(work: Workplace) -> None:
    work.method("one")
    folder, lock = create(work.home / "sessions", work.plan("one"))
    os.close(lock)
    os.rename(folder.path, folder.path.with_name("elsewhere"))  # noqa: PTH104
    with pytest.raises(SessionError, match="was moved or removed"):
        folder.read()
