"""The built-in recording: it is whole, says nothing of the machine's paths, and plays in the workbench."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path

import pytest

from sessions.disk.store import Store
from sessions.watch.following import Replayer
from tui.command_line import EXIT_USAGE, main
from tui.read import demo
from tui.read.this_machine import last_measured


def test_the_recording_plays_with_its_text_and_without_its_model(bare: Path) -> None:
    session = demo.unpack(bare)
    folder = Store(bare / "sessions").folder(session)
    assert (folder.path.stat().st_mode & 0o777) == 0o700
    replayer = Replayer(folder)
    live = replayer.snapshot()
    while not replayer.ended and not (live.text and not live.warmup):
        replayer.advance(5.0)
        live = replayer.snapshot()
    assert len(live.methods) == len(folder.plan().methods) > 6
    assert live.method in {row.name for row in live.methods}
    assert len(live.text.split()) > 1


def test_the_recording_is_small_and_names_no_path_of_the_machine_it_is_from() -> None:
    assert demo.RECORDING.stat().st_size < 1_000_000
    with zipfile.ZipFile(demo.RECORDING) as archive:
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    assert set(re.findall(r'"(/[a-z]+)/', text)) <= {"/kasoku"}
    assert not re.search(r"https?://", text)


def test_a_damaged_recording_is_a_sentence(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "RECORDING", tmp_path / "recording.zip")
    with pytest.raises(demo.DemoError, match="cannot be unpacked"):
        demo.unpack(bare)
    (tmp_path / "recording.zip").write_bytes(b"PK rubbish")
    with pytest.raises(demo.DemoError, match="reinstalling"):
        demo.unpack(bare)


def test_the_demo_stands_alone_and_needs_a_terminal_that_draws(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--demo", "sessions"]) == EXIT_USAGE
    assert "--demo stands alone" in capsys.readouterr().err
    assert main(["--demo"]) == EXIT_USAGE
    assert "needs a terminal" in capsys.readouterr().err
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    assert main(["--demo"]) == EXIT_USAGE
    assert "TERM=dumb is a terminal that draws no screens" in capsys.readouterr().err


def test_the_first_screen_says_the_recordings_answer_before_anybody_has_looked_at_it(bare: Path) -> None:
    demo.unpack(bare)
    said = last_measured(Store(bare / "sessions"))
    assert "is the fastest" in said
