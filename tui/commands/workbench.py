"""`kasoku` without a command: the workbench, which needs a terminal; and one that `kasoku serve` shows in a browser."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from methods.base.home import config_folder, home
from tui.command_line import UsageError, in_sentences
from tui.commands.store import all_sessions

if TYPE_CHECKING:
    from textual.driver import Driver

FASTER = 4  # steps: sixteen times as fast as it was


def open_workbench(options: argparse.Namespace) -> int:
    """Open the full-screen workbench."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("The workbench needs a terminal; without one, use `kasoku run` (see `kasoku --help`).")
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "TERM=dumb is a terminal that draws no screens: set TERM to what yours is, or use `kasoku run`."
        )
    from tui.app import OF_A_TERMINAL

    return _open(OF_A_TERMINAL, demo=options.demo, store=options.store)


def main(arguments: list[str]) -> int:
    """The workbench of one browser: stdin and stdout lead to `kasoku serve`, which shows what is said on stderr."""
    from tui.browser.driver import BrowserDriver

    with contextlib.redirect_stdout(sys.stderr):
        return in_sentences(lambda: _open(BrowserDriver, demo="--demo" in arguments))


def _open(driver: type[Driver] | None, *, demo: bool, store: str | None = None) -> int:
    from sessions.device.affinity import keep_to, shared_out
    from tui.app import run_app

    keep_to(shared_out().workbench)
    if demo:
        return _demo(driver)
    return run_app(home(), config_folder(), driver=driver, shared=all_sessions(store).shared)


def _demo(driver: type[Driver] | None) -> int:
    """Play the built-in recording from a home of its own, which is gone afterwards."""
    from tui.app import run_app
    from tui.read.demo import DemoError, unpack

    with tempfile.TemporaryDirectory(prefix="kasoku-demo-") as folder:
        try:
            session = unpack(Path(folder))
        except DemoError as error:
            raise UsageError(str(error)) from None
        return run_app(Path(folder), config_folder(), watch=session, replay=True, faster=FASTER, driver=driver)
