"""`kasoku publish SESSION…`: to the team's store."""

from __future__ import annotations

import argparse
import sys

from sessions.close.session_end import recover
from sessions.disk.session_folder import SessionError
from sessions.published.publish import publish as publish_session
from sessions.published.published import Published
from tui.command_line import EXIT_METHOD_FAILED, EXIT_OK, STORE_VARIABLE, UsageError
from tui.commands.progress import ProgressLines
from tui.commands.store import all_sessions, store
from tui.words.figures import size
from tui.words.terminal_text import one_line, plain


def publish(options: argparse.Namespace) -> int:
    """Publish sessions of this home, one after another; those that cannot be are said, and the others are."""
    shared = all_sessions(options.store).shared
    if not isinstance(shared, Published):
        raise UsageError(
            f"There is no store to publish to: name a folder or s3://BUCKET/PREFIX with --store or {STORE_VARIABLE}."
        )
    try:
        folders = [store().folder(session) for session in options.sessions]
        if remark := shared.objects.remark:
            sys.stderr.write(f"kasoku: {one_line(remark, 600)}\n")
    except SessionError as error:
        raise UsageError(str(error)) from None
    failed = 0
    for folder in folders:
        try:
            if not folder.is_live():
                recover(folder)
            with ProgressLines() as lines:
                done = publish_session(folder, shared, lines.report)
        except SessionError as error:
            sys.stderr.write(f"kasoku: {one_line(str(error), 600)}\n")
            failed += 1
            continue
        what = "is there already, as it is here" if done.already else f"{done.files} files, {size(done.size)}"
        sys.stdout.write(plain(f"{done.session} in {shared.url}: {what}") + "\n")
        if done.remark:
            sys.stderr.write(f"kasoku: {one_line(done.remark, 600)}\n")
    return EXIT_METHOD_FAILED if failed else EXIT_OK
