"""Homes with sessions for the screens' tests: real journals and frames, scripted measurements."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.tui.journals import make_tokeniser, write_session
from tui.app import Workbench
from tui.own_share import OwnShare

FIRST, SECOND, DEAD = "20260225-060000-aaaaaa", "20260225-070000-bbbbbb", "20260225-080000-cccccc"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times of day on the screens do not depend on where the test runs."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(autouse=True)
def no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames come as often as they are asked for: the CPU time of this process is the tests', not the workbench's."""
    for screen in ("run", "all_running"):
        monkeypatch.setattr(f"tui.screens.{screen}.OwnShare", partial(OwnShare, used=lambda: 0.0))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A home without any session."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two finished sessions and one whose conductor died; tests that change it make their own."""
    return make_saved(tmp_path_factory.mktemp("saved"))


def make_saved(folder: Path) -> Path:
    model = folder / "models" / "small"
    ids = make_tokeniser(model)
    write_session(folder, session=FIRST, name="first look", model_folder=str(model), ids=ids)
    write_session(folder, session=SECOND, model_folder=str(model), ids=ids)
    write_session(folder, session=DEAD, ended=False, model_folder=str(model), ids=ids)
    return folder


@pytest.fixture
def running(bare: Path) -> Iterator[Path]:
    """A home with one session in the middle of a request, its lock held as a conductor holds it."""
    model = bare / "models" / "small"
    ids = make_tokeniser(model)
    folder = write_session(bare, session=FIRST, ended=False, model_folder=str(model), ids=ids)
    lock = folder.try_lock()
    assert lock is not None
    yield bare
    os.close(lock)


def workbench(home: Path, **options: object) -> Workbench:
    return Workbench(home, home / "config", **options)  # type: ignore[arg-type]
