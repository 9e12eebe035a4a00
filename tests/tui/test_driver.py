"""The driver of the workbench's terminal, in a pty."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.sessions.processes import until
from tests.tui.terminal import QUESTION, Terminal
from tests.tui.test_end_to_end import KASOKU, environment

FORM = "max new tokens"
DEAF = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
import kasoku
sys.exit(kasoku.main())
"""

STOPPED_IN_A_WRITE = """
import os, signal, sys
from textual.drivers._writer_thread import WriterThread
write = WriterThread.write
def stopped(self, text):
    if "Nothing selected" in text:
        WriterThread.write = write
        with self._queue.mutex:
            os.kill(os.getpid(), signal.SIGTSTP)
            for _ in range(1000):
                pass
    write(self, text)
WriterThread.write = stopped
import kasoku
sys.exit(kasoku.main())
"""


def opened(*command: str, answers: bool = True, **variables: str) -> Terminal:
    terminal = Terminal(100, 30, answers=answers)
    terminal.start(command, environment() | variables)
    return terminal


def test_the_screen_is_drawn_on_the_terminal_where_stderr_goes_to_a_file(home: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    terminal = Terminal(100, 30)
    terminal.start(["/bin/sh", "-c", f'exec "$0" "$@" 2>{errors}', *KASOKU], environment())
    try:
        terminal.wait_for(lambda text: "max new tokens" in text, 60, "the form")
        terminal.press(b"q")
        assert terminal.wait_until_ended(60) == 0
    finally:
        terminal.hang_up()
    assert errors.read_text() == ""


def test_a_terminal_that_does_not_answer_is_not_asked_again(running: Path) -> None:
    terminal = opened(*KASOKU, answers=False, KASOKU_HOME=str(running))
    try:
        terminal.wait_for(lambda text: "tok/s" in text, 60, "the live view")
        began = len(terminal.chunks)
        terminal.press_each(*[b"t"] * 4)
        assert len(terminal.chunks) > began + 4, "more frames are drawn"
        terminal.press(b"q")
        terminal.wait_until_ended(60)
    finally:
        terminal.hang_up()
    assert b"".join(chunk for _, chunk in terminal.chunks).count(QUESTION) == 1, "Textual's own, at the start"


def test_one_that_answers_is_asked_behind_a_frame(running: Path) -> None:
    terminal = opened(*KASOKU, KASOKU_HOME=str(running))
    try:
        until(lambda: b"".join(chunk for _, chunk in terminal.chunks).count(QUESTION) > 1, "it is asked", 30)
        terminal.press(b"q")
        terminal.wait_until_ended(60)
    finally:
        terminal.hang_up()


def test_it_ends_with_its_terminal_though_sighup_is_ignored(home: Path) -> None:
    terminal = opened(sys.executable, "-c", DEAF)
    terminal.wait_for(lambda text: FORM in text, 60, "the form")
    terminal.let_go()
    assert terminal.wait_until_ended(60) == 128 + signal.SIGHUP


def test_a_key_that_is_no_utf_8_is_lost_and_nothing_else_and_a_resized_terminal_is_written_whole(home: Path) -> None:
    terminal = opened(*KASOKU)
    try:
        terminal.wait_for(lambda text: FORM in text, 60, "the form")
        terminal.press(b"\xe9\xe9")
        until(
            lambda: terminal.press(b"3") and "Nothing selected" in "\n".join(terminal.lines()), "the next key works", 20
        )
        for come_back in (signal.SIGWINCH, signal.SIGCONT):
            if come_back == signal.SIGCONT:
                os.kill(terminal.pid, signal.SIGTSTP)
                until(lambda: psutil.Process(terminal.pid).status() == psutil.STATUS_STOPPED, "it is stopped", 20)
            began = len(terminal.chunks)
            os.kill(terminal.pid, come_back)
            until(lambda: b"Nothing selected" in b"".join(part for _, part in terminal.chunks[began:]), "all of it", 20)  # noqa: B023
        terminal.press(b"q")
        assert terminal.wait_until_ended(60) == 0
    finally:
        terminal.hang_up()


def test_ctrl_z_in_the_middle_of_a_frame_stops_it(home: Path) -> None:
    terminal = opened(sys.executable, "-c", STOPPED_IN_A_WRITE)
    try:
        terminal.wait_for(lambda text: FORM in text, 60, "the form")
        terminal.press(b"3")
        until(lambda: psutil.Process(terminal.pid).status() == psutil.STATUS_STOPPED, "it is stopped", 60)
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.wait_for(lambda text: "Nothing selected" in text, 60, "the frame")
        terminal.press(b"q")
        assert terminal.wait_until_ended(60) == 0
    finally:
        terminal.hang_up()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_lines_and_ticks_draws_others_in_their_cells(home: Path, encoding: str) -> None:
    terminal = opened(*KASOKU, PYTHONIOENCODING=encoding)
    try:
        terminal.wait_for(lambda text: FORM in text and "----" in text, 60, "the form and its lines")
        terminal.press(b"q")
        assert terminal.wait_until_ended(60) == 0
    finally:
        terminal.hang_up()
    sent = b"".join(chunk for _, chunk in terminal.chunks)
    assert b"\\u" not in sent
    assert b"\xe2" not in sent, "no UTF-8"
