"""`kasoku doctor`: what on this machine disturbs measurements."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from methods.base.home import config_folder, home
from sessions.device.doctor import findings
from tui.command_line import EXIT_METHOD_FAILED, EXIT_OK, UsageError
from tui.words.terminal_text import json_document, one_line

MARKS = {"ok": "✓", "note": "·", "warning": "!", "problem": "✗"}


def doctor(options: argparse.Namespace) -> int:
    """A line per finding; exit code 1 if one is a problem."""
    if options.on is not None:
        return _of_hosts(options)
    if options.host or options.create_environments is not None:
        raise UsageError(
            "--host and --create-environments go with --on here; `kasoku env create` makes one on this host."
        )
    found = findings(home(), config_folder())
    if options.json:
        sys.stdout.write(json_document([asdict(one) for one in found]))
    else:
        for one in found:
            remedy = f"  → {one.remedy}" if one.remedy else ""
            sys.stdout.write(f"{MARKS[one.level]} {one_line(one.text + remedy, 400)}\n")
    return EXIT_METHOD_FAILED if any(one.level == "problem" for one in found) else EXIT_OK


def _of_hosts(options: argparse.Namespace) -> int:
    """The same of each host, and what it can run; exit code 1 also if one cannot be asked."""
    from tui.commands.on_hosts import examined

    found = examined(options)
    if options.json:
        import msgspec

        sys.stdout.write(json_document(msgspec.to_builtins(found)))
    else:
        if found.remark:
            sys.stdout.write(f"{MARKS['warning']} {one_line(found.remark, 400)}\n")
        for name, seen in found.hosts.items():
            told = found.refused.get(name, "") if seen is None else f"{name}: {seen.device}"
            sys.stdout.write(f"{one_line(told, 400)}\n")
            for method, lacks in (seen.methods if seen is not None else {}).items():
                mark, text = (MARKS["note"], f"{method}: {lacks}") if lacks else (MARKS["ok"], f"{method} can run")
                sys.stdout.write(f"  {mark} {one_line(text, 400)}\n")
            for one in seen.findings if seen is not None else ():
                remedy = f"  → {one.remedy}" if one.remedy else ""
                sys.stdout.write(f"  {MARKS.get(one.level, MARKS['problem'])} {one_line(one.text + remedy, 400)}\n")
    problems = [
        one for seen in found.hosts.values() if seen is not None for one in seen.findings if one.level == "problem"
    ]
    return EXIT_METHOD_FAILED if problems or found.refused else EXIT_OK
