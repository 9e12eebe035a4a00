"""The workbench opens on every Python that the project is for, of those that this machine has.

Textual's pilots run the app on another kind of event loop than its terminals do, and from Python 3.12 on that makes a
difference: only an app in a terminal tells.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.tui.terminal import Terminal

pytestmark = pytest.mark.engines
ROOT = Path(__file__).parents[2]
OTHERS = [version for version in ("3.11", "3.12", "3.13") if version != f"{sys.version_info[0]}.{sys.version_info[1]}"]


def interpreter(version: str) -> str | None:
    """A Python of this version that works: from the path, or of pyenv, whose shims are there for every version."""
    found = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        found += [str(path) for path in Path(root).glob(f"versions/{version}.*/bin/python")]
    for path in found:
        if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.fixture(params=OTHERS)
def kasoku(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The command, installed for another Python."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} on this machine")
    folder = tmp_path / "venv"
    for command in (
        ["venv", "--python", python, str(folder)],
        ["pip", "install", "--python", str(folder / "bin" / "python"), "--editable", str(ROOT)],
    ):
        done = subprocess.run([find_uv_bin(), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    yield str(folder / "bin" / "kasoku")
    shutil.rmtree(folder)


def test_every_screen_opens(kasoku: str, home: Path) -> None:
    terminal = Terminal(100, 30)
    terminal.start([kasoku], {**os.environ, "TERM": "xterm-256color"})
    try:
        terminal.wait_for(lambda text: "max new tokens" in text and "Start" in text, 60, "the form")
        terminal.press(b"2")
        terminal.wait_for(lambda text: "/ filter" in text, 60, "the sessions")
        terminal.press(b"4")
        terminal.wait_for(lambda text: "torch-compile-wrapper" in text, 60, "the methods")
        terminal.press(b"3")
        terminal.wait_for(lambda text: "b baseline" in text, 60, "the comparison")
        terminal.press(b"?")
        terminal.wait_for(lambda text: "Help: escape" in text, 60, "the help")
        terminal.press_each(b"\x1b", b"1")
        terminal.wait_for(lambda text: "max new tokens" in text, 60, "the form again")
        terminal.press(b"q")
        assert terminal.wait_until_ended(60) == 0
    finally:
        terminal.hang_up()
    assert not (home / "workbench-failure.log").exists()
