"""The command line on a real terminal: ctrl+c, a connection that drops, and text that would command the terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from sessions.disk.plan import Plan
from sessions.disk.records import Phase, Tokens
from sessions.disk.session_folder import SessionFolder
from sessions.run.launch import launch
from tests.sessions.processes import until
from tests.sessions.workplace import (
    KASOKU,
    Workplace,
    assert_nothing_left,
    conductor_of,
    environment_of,
    make_model,
    records_of,
    runs_of,
)
from tests.tui.terminal import Terminal

CTRL_C = b"\x03"
ESCAPES = "\x1b]0;owned\x07 \x1b[?1049h \x1b[6n \x9b6n \r\x08 [blink]markup[/blink]"
# What rich writes: colours and styles, moving up and to the line's beginning, clearing, hiding the cursor.
OURS = re.compile(rb"\x1b\[[0-9;]*m|\x1b\[[0-9]*[ABGHJK]|\x1b\[\?25[lh]")
HARMFUL = re.compile(rb"[\x00-\x06\x07\x08\x0b-\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xaa-\xae]")

NEXT = b"~~~ next ~~~\r\n"
EACH_IN_TURN = """
import sys
from tui.command_line import main
for command in sys.argv[1:]:
    main(bytes.fromhex(command).decode().split("\\0"))
    sys.stderr.flush()
    print("~~~ next ~~~", flush=True)
"""


@contextmanager
def terminal(work: Workplace, *arguments: str, columns: int = 120, rows: int = 30) -> Iterator[Terminal]:
    """`kasoku` with these arguments in a terminal."""
    opened = Terminal(columns, rows)
    opened.start([str(KASOKU), *arguments], {**environment_of(work), "TERM": "xterm-256color"})
    try:
        yield opened
    finally:
        if opened.status is None:
            opened.hang_up()


def each_in_turn(work: Workplace, commands: Sequence[tuple[str, ...]]) -> list[bytes]:
    """What each of these commands writes to a terminal, one after another in one process, which saves their starts."""
    opened = Terminal(120, 30)
    code = [sys.executable, "-c", EACH_IN_TURN, *("\0".join(command).encode().hex() for command in commands)]
    opened.start(code, {**environment_of(work), "TERM": "xterm-256color"})
    assert opened.wait_until_ended(60) == 0
    until(lambda: written(opened).count(NEXT) == len(commands), "all of it is read")
    opened.let_go()
    *outputs, rest = written(opened).split(NEXT)
    assert rest == b""
    return outputs


def written(opened: Terminal) -> bytes:
    return b"".join(chunk for _, chunk in opened.chunks)


def tokens(folder: SessionFolder) -> int:
    return sum(len(record.ids) for record in records_of(folder) if isinstance(record, Tokens))


def measuring(work: Workplace) -> SessionFolder:
    """The newest session, once tokens flow."""
    folder = until(lambda: work.sessions()[-1] if work.sessions() else None, "there is a session")
    until(lambda: tokens(folder) > 3, "it measures")
    return folder


@pytest.fixture
def slow(work: Workplace) -> list[str]:
    """The options of a run that takes a minute unless it is stopped."""
    work.method("slow", rate=20.0)
    return work.options("slow", max_new_tokens=1_200)


def test_ctrl_c_saves_what_was_measured_and_exits_130(work: Workplace, slow: list[str]) -> None:
    with terminal(work, *slow) as screen:
        folder = measuring(work)
        screen.wait_for(lambda text: "tok/s now" in text, 60, "the rate as it runs")
        screen.press(CTRL_C)
        assert screen.wait_until_ended(60) == 130
        text = "\n".join(screen.lines())
    assert f"Saved as {folder.id}" in text
    assert "Stopped by request" in text
    assert folder.read().status == "stopped"
    assert [row["status"] for row in runs_of(folder)] == ["stopped"]
    assert len(pl.read_parquet(folder.frame("tokens"))) == tokens(folder) > 3
    assert_nothing_left(folder)


def test_a_second_ctrl_c_leaves_at_once_and_the_session_is_saved_all_the_same(work: Workplace, slow: list[str]) -> None:
    with terminal(work, *slow) as screen:
        folder = measuring(work)
        conductor = conductor_of(folder)
        conductor.suspend()  # so that it does not end between the two
        screen.press(CTRL_C)
        screen.wait_for(lambda text: "stopping; saving what was measured" in text, 60, "what ctrl+c does")
        screen.press(CTRL_C)
        assert screen.wait_until_ended(60) == 130
        assert any("is being stopped and saved" in line for line in screen.lines())
        assert folder.is_live()
        conductor.resume()
    assert work.finished(folder) == "stopped"


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_ctrl_c_at_the_very_beginning_leaves_nothing_running(work: Workplace, slow: list[str], seconds: float) -> None:
    """Wherever it comes between the start of the program and the first picture."""
    with terminal(work, *slow) as screen:
        moment = time.monotonic() + seconds
        until(lambda: time.monotonic() >= moment, "the moment has come")
        screen.press(CTRL_C)
        assert screen.wait_until_ended(60) in (130, -2), "ended by the signal itself before Python could take it"
        assert b"Traceback" not in written(screen) or screen.status == -2
    for folder in work.sessions():
        assert work.finished(folder) in ("stopped", "interrupted")
        assert_nothing_left(folder)


def test_ctrl_c_between_the_launch_and_the_first_picture_stops_the_session(
    work: Workplace, slow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: object, **__: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("tui.commands.following.watch", pressed)
    assert work.command(*slow).code == 130
    assert work.finished(work.sessions()[-1]) == "stopped"


def test_ctrl_c_while_the_session_is_made_stops_it(
    work: Workplace, slow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def launched(home: Path, plan: Plan) -> SessionFolder:
        signal.raise_signal(signal.SIGINT)
        return launch(home, plan)

    monkeypatch.setattr("tui.commands.run.launch", launched)
    assert work.command(*slow).code == 130
    assert work.finished(work.sessions()[-1]) == "stopped"


def test_a_connection_that_drops_leaves_the_session_running_and_another_viewer_attaches(
    work: Workplace, slow: list[str]
) -> None:
    with terminal(work, *slow) as screen:
        folder = measuring(work)
        screen.hang_up()
    before = tokens(folder)
    until(lambda: tokens(folder) > before + 5, "it goes on")
    with terminal(work, "attach") as first, terminal(work, "attach", folder.id) as second:
        for screen in (first, second):
            text = screen.wait_for(lambda text: "tok/s now" in text, 60, "the running session")
            assert f"kasoku · {folder.id} · running" in text
            assert "slow" in text
        first.press(CTRL_C)
        assert first.wait_until_ended(60) == 0, "detaching is not an error"
        assert any(f"Detached; {folder.id} continues" in line for line in first.lines())
        assert folder.is_live()
        assert work.command("stop", folder.id).code == 0
        assert second.wait_until_ended(60) == 130
        assert any(f"Saved as {folder.id}" in line for line in second.lines())
    assert_nothing_left(folder)


def test_a_replay_plays_on_the_terminal_and_ctrl_c_leaves_it(work: Workplace) -> None:
    work.method("one", rate=100.0)
    folder = work.run("one", max_new_tokens=60)
    with terminal(work, "replay", folder.id) as screen:
        screen.wait_for(lambda text: "block 1/1: one, timed" in text and "tok/s now" in text, 60, "the block again")
        assert screen.wait_until_ended(60) == 0
        assert any(f"Saved as {folder.id}" in line for line in screen.lines())
    with terminal(work, "replay", folder.id, "--speed", "0.01") as screen:
        screen.wait_for(lambda text: "kasoku ·" in text, 60, "the first picture")
        screen.press(CTRL_C)
        assert screen.wait_until_ended(60) == 130


def test_a_terminal_of_any_width_is_kept_within(work: Workplace) -> None:
    name = work.method("a-method-with-a-rather-long-name-for-a-narrow-terminal")
    for columns, command in ((20, work.options(name)), (40, ["replay", "last"]), (80, ["replay", "last"])):
        with terminal(work, *command, columns=columns) as screen:
            assert screen.wait_until_ended(60) == 0
            assert any("Saved" in line for line in screen.lines())


def test_no_text_of_a_model_an_engine_or_a_name_commands_the_terminal(work: Workplace) -> None:
    """Text, log lines, errors, the model's folder, a session's name: in run, show, attach and replay."""
    harmful = [ESCAPES.replace(" ", "_"), "\x1b[6n", "\x9b6n", "\x07", "\u202eevil"]
    words = ["hello", *harmful, *(f"word{number}" for number in range(58))]
    folder_name = "model\x1b[6n\x1b]0;owned\x07"
    model = make_model(work.model.with_name(folder_name), words)
    work.method("one", rate=60.0)
    work.method("breaks", fault="exception")
    options = work.options("one", "breaks", model=model, prompt_tokens=None, prompt="hello", max_new_tokens=50)
    outputs = {}
    with terminal(work, *options) as screen:
        assert screen.wait_until_ended(60) == 1
        outputs["run"] = written(screen)
    folder = work.sessions()[-1]
    texts = pl.read_parquet(folder.frame("requests"))["text"].to_list()
    assert any(harmful[0] in text for text in texts), "the frames keep what the model said"
    assert any("\x1b[6n" in row["error"] for row in runs_of(folder))
    assert any(isinstance(record, Phase) and "\x1b" in record.name for record in records_of(folder))
    commands = [("show", folder.id), ("attach", folder.id), ("replay", folder.id, "--speed", "5"), ("sessions",)]
    commands += [("compare", folder.id), ("show", "\x1b[6n\x07"), ("models", "list"), ("methods",)]
    outputs |= zip(map(" ".join, commands), each_in_turn(work, commands), strict=True)
    assert b"owned" in outputs["run"], "neutralised, not left out"
    assert "�" in outputs["replay " + folder.id + " --speed 5"].decode()
    for name, output in outputs.items():
        rest = OURS.sub(b"", output)
        assert b"\x1b" not in rest, f"{name}: {rest[max(0, rest.find(27) - 60) :][:120]!r}"
        assert not HARMFUL.search(rest), f"{name}: {HARMFUL.search(rest)}"


def test_output_that_is_no_terminal_has_no_escapes_at_all(work: Workplace) -> None:
    work.method("breaks", fault="exception")
    said = work.kasoku(*work.options("breaks"))
    assert said.code == 1
    shown = work.kasoku("show", "last")
    assert "scripted failure" in shown.out
    for text in (said.out, said.err, shown.out, shown.err):
        assert not [c for c in text if ord(c) < 32 and c not in "\n\t"]
        assert not HARMFUL.search(text.encode())
    assert os.environ.get("FORCE_COLOR") is None
