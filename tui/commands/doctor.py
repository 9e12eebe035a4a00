"""`kasoku doctor`: what on this machine disturbs measurements."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from methods.base.home import config_folder, home
from sessions.device.doctor import findings
from tui.command_line import EXIT_METHOD_FAILED, EXIT_OK
from tui.words.terminal_text import json_document, one_line

MARKS = {"ok": "✓", "note": "·", "warning": "!", "problem": "✗"}


def doctor(options: argparse.Namespace) -> int:
    """A line per finding; exit code 1 if one is a problem."""
    found = findings(home(), config_folder())
    if options.json:
        sys.stdout.write(json_document([asdict(one) for one in found]))
    else:
        for one in found:
            remedy = f"  → {one.remedy}" if one.remedy else ""
            sys.stdout.write(f"{MARKS[one.level]} {one_line(one.text + remedy, 400)}\n")
    return EXIT_METHOD_FAILED if any(one.level == "problem" for one in found) else EXIT_OK
