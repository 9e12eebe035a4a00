"""`kasoku report SESSION… --out FILE`: sessions on one page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sessions.close.session_end import recover
from sessions.disk.session_folder import SessionError
from tui.command_line import EXIT_OK, UsageError
from tui.commands.store import all_sessions, find
from tui.words.terminal_text import plain


def report(options: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from tui.print.report_page import ReportError, form_of, write_report

    path = Path(options.out)
    try:
        form_of(path)
        store = all_sessions(options.store)
        folders = [find(session, store) for session in options.sessions]
    except ReportError as error:
        raise UsageError(str(error)) from None
    problems = []
    for folder in folders:
        try:
            if not folder.is_live():
                recover(folder)
            folder.read()
        except SessionError as error:  # the page's row says it
            problems.append(str(error))
    if len(problems) == len(folders):
        raise UsageError(problems[0])
    from sessions.export.report import make_report

    made = make_report(store, list(dict.fromkeys(folder.id for folder in folders)))
    try:
        target = write_report(made, path)
    except ReportError as error:
        raise UsageError(str(error)) from None
    sys.stdout.write(f"{plain(str(target))}\n")
    return EXIT_OK
