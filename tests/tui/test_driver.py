"""The driver of the workbench's terminal, in a pty."""

from __future__ import annotations

from pathlib import Path

from tests.tui.terminal import Terminal
from tests.tui.test_end_to_end import KASOKU, environment


def test_the_screen_is_drawn_on_the_terminal_where_stderr_goes_to_a_file(home: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    terminal = Terminal(100, 30)
    terminal.start(["/bin/sh", "-c", f'exec "$0" "$@" 2>{errors}', *KASOKU], environment())
    try:
        terminal.wait_for(lambda text: "max new tokens" in text, 30, "the form")
        terminal.press(b"q")
        assert terminal.wait_until_ended(30) == 0
    finally:
        terminal.hang_up()
    assert errors.read_text() == ""
