"""`kasoku` without a command: the workbench, which needs a terminal."""

from __future__ import annotations

import argparse
import sys

from methods.base.home import config_folder, home
from tui.command_line import UsageError


def open_workbench(options: argparse.Namespace) -> int:
    """Open the full-screen workbench."""
    del options
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("The workbench needs a terminal; without one, use `kasoku run` (see `kasoku --help`).")
    from sessions.device.affinity import keep_to, shared_out
    from tui.app import run_app

    keep_to(shared_out().workbench)
    return run_app(home(), config_folder())
