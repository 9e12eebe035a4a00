"""`kasoku` without a command: the workbench, which needs a terminal."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from methods.base.home import config_folder, home
from tui.command_line import UsageError

FASTER = 4  # steps: sixteen times as fast as it was


def open_workbench(options: argparse.Namespace) -> int:
    """Open the full-screen workbench."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("The workbench needs a terminal; without one, use `kasoku run` (see `kasoku --help`).")
    if os.environ.get("TERM") == "dumb":
        raise UsageError(
            "TERM=dumb is a terminal that draws no screens: set TERM to what yours is, or use `kasoku run`."
        )
    from sessions.device.affinity import keep_to, shared_out
    from tui.app import run_app

    keep_to(shared_out().workbench)
    if options.demo:
        return _demo()
    return run_app(home(), config_folder())


def _demo() -> int:
    """Play the built-in recording from a home of its own, which is gone afterwards."""
    from tui.app import run_app
    from tui.read.demo import DemoError, unpack

    with tempfile.TemporaryDirectory(prefix="kasoku-demo-") as folder:
        try:
            session = unpack(Path(folder))
        except DemoError as error:
            raise UsageError(str(error)) from None
        return run_app(Path(folder), config_folder(), watch=session, replay=True, faster=FASTER)
