"""Locks between processes, and file systems that have none: one sentence, and sessions can still be looked at."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from methods.base import file_lock
from methods.base.home import HomeError
from methods.base.progress import silent
from sessions.close.session_end import recover
from sessions.device.device_lock import DeviceLock
from sessions.device.doctor import findings
from sessions.disk.session_folder import SessionError, SessionFolder, create
from sessions.disk.store import Store
from tests.sessions.conftest import workplace_in

SENTENCE = "no file locks.*KASOKU_HOME to a folder on a local disk"


def take_locks_away(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def none(_descriptor: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    with file_lock.held_if_free(tmp_path / "lock") as first, file_lock.held_if_free(tmp_path / "lock") as second:
        assert (first, second) == (True, False)
    assert file_lock.lock_fault(tmp_path) == ""


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_everything_that_needs_one_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    take_locks_away(monkeypatch, code)
    with pytest.raises(HomeError, match=SENTENCE), file_lock.held(tmp_path / "lock", "model m", silent):
        pass
    with pytest.raises(HomeError, match=SENTENCE):
        DeviceLock(["cpu"], "me").try_take(tmp_path)
    work = workplace_in(tmp_path)
    work.method("one")
    with pytest.raises(SessionError, match=SENTENCE):
        create(work.home / "sessions", work.plan("one"))
    assert work.sessions() == [], "nothing half-made stays behind"
    problems = [found.text for found in findings(work.home, work.config) if found.level == "problem"]
    assert any("no file locks" in text for text in problems), problems


def test_without_locks_a_session_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = workplace_in(tmp_path)
    work.method("one")
    folder, lock = create(work.home / "sessions", work.plan("one"))
    os.close(lock)
    take_locks_away(monkeypatch, errno.ENOLCK)
    assert not folder.is_live()
    assert recover(folder) == "preparing"
    assert [row.status for row in Store(work.home / "sessions").listed()] == ["interrupted"]


def test_locks_that_everybody_gets_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = workplace_in(tmp_path)
    work.method("one")
    plan = work.plan("one")
    monkeypatch.setattr(fcntl, "flock", lambda _descriptor, _operation: None)
    assert "everybody is given the same one" in file_lock.lock_fault(tmp_path)
    with pytest.raises(SessionError, match=SENTENCE):
        create(work.home / "sessions", plan)
    assert work.sessions() == []


def test_a_session_that_could_not_be_begun_leaves_no_folder_whatever_stopped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = workplace_in(tmp_path)
    work.method("one")
    plan = work.plan("one")

    def interrupted(_folder: SessionFolder, _session: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SessionFolder, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        create(work.home / "sessions", plan)
    assert work.sessions() == []
