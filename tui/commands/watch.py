"""`kasoku attach` and `kasoku replay`: watching."""

from __future__ import annotations

import argparse
import sys
import time

from sessions.close.session_end import recover
from sessions.disk.journal import JournalError
from sessions.disk.session_folder import SessionError
from sessions.watch.following import Replayer
from sessions.watch.live import Live
from tui.command_line import EXIT_INTERRUPTED, EXIT_OK, UsageError
from tui.commands.following import outcome, watch
from tui.commands.host_options import refuse_moved
from tui.commands.on_hosts import found_on_its_host
from tui.commands.store import all_sessions, find, store
from tui.print.console import console
from tui.print.progress_view import ProgressView, follow

FRAME_S = 0.1


def attach(options: argparse.Namespace) -> int:
    """Follow a running session, by default the newest; ctrl+c only detaches."""
    session = options.session
    if session is None:
        live = store().live()
        if not live:
            raise UsageError("No session is running: `kasoku run` starts one, `kasoku sessions` lists the saved ones.")
        session = live[0]
    folder = find(session)
    refuse_moved(folder, options)
    if not folder.is_live():
        found_on_its_host(folder, options)
    if watch(folder, ctrl_c_stops=False, quiet=False):
        sys.stderr.write(f"Detached; {folder.id} continues.\n")
        return EXIT_OK
    return outcome(folder, as_json=False)


def replay(options: argparse.Namespace) -> int:
    """Replay a saved session's journal in real time, or `--speed` times as fast."""
    among = all_sessions(options.store)
    folder = find(options.session, among)
    if not 0.01 <= options.speed <= 100_000:
        raise UsageError(f"--speed {options.speed:g} is out of range: use a number from 0.01 to 100,000.")
    try:
        recover(folder)
        replayer = Replayer(folder)
    except SessionError as error:
        raise UsageError(str(error)) from None
    with ProgressView(console()) as view:

        def poll() -> Live | None:
            if replayer.ended:
                return None
            try:
                replayer.advance(FRAME_S * options.speed)
            except JournalError as error:
                raise UsageError(str(error)) from None
            if not replayer.ended:
                time.sleep(FRAME_S)
            return replayer.snapshot()

        if follow(view, poll, lambda: True):
            return EXIT_INTERRUPTED
        view.show(replayer.snapshot())
    return outcome(folder, as_json=False, among=among) and EXIT_OK
