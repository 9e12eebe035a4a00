"""A disk that fills up at any byte, and a home that may only be read."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions.disk.session_folder import SessionError, SessionFolder, create
from sessions.run.launch import launch
from tests.sessions.conftest import workplace_in
from tests.sessions.processes import end_all, until
from tests.sessions.soundness import assert_completed, assert_sound
from tests.sessions.workplace import Workplace, assert_nothing_left

FULL = ("is full", "no space left", "cannot be written", "cannot write")
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")


@pytest.fixture
def disk_work(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    """A workplace on a disk of 3 MB of its own."""
    work = workplace_in(small_disk)
    monkeypatch.setenv("KASOKU_HOME", str(work.home))
    monkeypatch.setenv("KASOKU_CONFIG", str(work.config))
    yield work
    end_all(small_disk)


def fill_but(disk: Path, left: int) -> Path:
    """A file that leaves that many bytes free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096):
            while shutil.disk_usage(disk).free >= left + size:
                file.write(b"x" * size)
    return filler


@only_root
@pytest.mark.parametrize("number", range(int(os.environ.get("KASOKU_TEST_DISKS", "2"))))
def test_a_disk_that_is_full_at_any_byte_leaves_a_session_that_opens_and_can_be_completed(
    disk_work: Workplace, small_disk: Path, number: int
) -> None:
    """From a disk without a single free page to one on which all but the frames fits."""
    drawn = random.Random(f"disk {number}")  # noqa: S311
    disk_work.method("one", rate=400.0)
    filler = fill_but(small_disk, drawn.choice([0, drawn.randrange(50_000), drawn.randrange(600_000)]))
    refused = ""
    try:
        folder = disk_work.launch("one", blocks=2, requests=2, max_new_tokens=40)
    except SessionError as error:
        refused = str(error).lower()
    if refused:
        filler.unlink()
        assert any(words in refused for words in FULL), refused
        assert disk_work.sessions() == [], "what could not be begun is no session"
        return
    until(lambda: not folder.is_live(), "it ends")
    assert_nothing_left(folder)
    said = disk_work.command("show", folder.id)
    assert said.code in (0, 2), said.err
    assert "Kasoku itself failed" not in said.out + said.err
    filler.unlink()
    disk_work.finished(folder)
    said = disk_work.command("show", folder.id)
    assert said.code == 0, said.err
    if folder.read().status != "finished":
        assert any(words in said.out.lower() for words in (*FULL, "its process ended")), said.out
    assert_sound(folder)
    disk_work.resume(folder)
    assert_completed(folder)
    assert_sound(folder)


@only_root
def test_a_session_that_the_disk_has_no_room_for_is_refused_and_leaves_nothing(
    disk_work: Workplace, small_disk: Path
) -> None:
    disk_work.method("one")
    plan = disk_work.plan("one")
    filler = fill_but(small_disk, 0)
    with pytest.raises(SessionError, match=r"(?i)no space left"):
        launch(disk_work.home, plan)
    filler.unlink()
    assert disk_work.sessions() == []


@only_root
def test_a_resume_for_which_there_is_no_room_is_a_sentence_and_lets_the_session_go(
    disk_work: Workplace, small_disk: Path
) -> None:
    disk_work.method("one", fault="exception", once=str(small_disk / "once"))
    folder = disk_work.run("one")
    filler = fill_but(small_disk, 0)
    said = disk_work.command("resume", folder.id)
    assert said.code == 2, said.out + said.err
    assert "no space left" in said.err.lower()
    assert not folder.is_live()
    filler.unlink()
    disk_work.resume(folder)
    assert_completed(folder)


READING: tuple[tuple[str, ...], ...] = (
    ("sessions",),
    ("sessions", "--json"),
    ("show", "SESSION"),
    ("show", "SESSION", "--json"),
    ("show", "SESSION", "--as", "vllm"),
    ("compare", "SESSION"),
    ("replay", "SESSION", "--speed", "99999"),
    ("export", "SESSION", "--out", "ELSEWHERE"),
    ("report", "SESSION", "--out", "ELSEWHERE/page.md"),
    ("methods",),
    ("env", "list"),
    ("models", "list"),
)
WRITING: tuple[tuple[str, ...], ...] = (
    ("run", "--method", "one", "--model", "MODEL", "--device", "cpu", "--prompt-tokens", "4"),
    ("resume", "SESSION"),
    ("show", "CUT"),
    ("env", "use", "torch", "/bin/true"),
    ("env", "remove", "plain"),
    ("env", "create", "torch"),
    ("models", "fetch", "synthetic:tiny-llama"),
)


@only_root
def test_a_home_that_may_only_be_read_shows_what_is_there_and_refuses_the_rest_in_a_sentence(
    disk_work: Workplace, small_disk: Path, tmp_path: Path
) -> None:
    disk_work.method("one")
    disk_work.method("broken", fault="exception")
    folder = disk_work.run("one", "broken")
    cut, lock = create(disk_work.home / "sessions", disk_work.plan("one"))
    os.close(lock)
    words = {"SESSION": folder.id, "CUT": cut.id, "MODEL": str(disk_work.model)}
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        for command in READING:
            given = [words.get(word, word.replace("ELSEWHERE", str(tmp_path / "out"))) for word in command]
            (tmp_path / "out").mkdir(exist_ok=True)
            said = disk_work.command(*given)
            assert said.code == 0, f"{command}: {said.err}"
        for command in WRITING:
            said = disk_work.command(*(words.get(word, word) for word in command))
            assert said.code in (1, 2), f"{command}: {said.out} {said.err}"
            assert "Kasoku itself failed" not in said.err, f"{command}: {said.err}"
            assert said.err.strip().count("\n") <= 1, f"{command}: {said.err}"
            assert "read-only" in said.err.lower() or "cannot" in said.err, f"{command}: {said.err}"
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    assert SessionFolder(cut.path).read().status == "preparing"
