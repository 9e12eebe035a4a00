"""`kasoku stop` and `kasoku resume`."""

from __future__ import annotations

import argparse
import sys
import time

from methods.base.home import home
from sessions.close.session_end import recover
from sessions.disk.extension import Extension
from sessions.disk.extension import options as extension_options
from sessions.disk.host_file import host_of
from sessions.disk.option_table import OptionError
from sessions.disk.session_folder import SessionError
from sessions.run.launch import extend
from sessions.run.launch import resume as launch_again
from tui.command_line import EXIT_INTERRUPTED, EXIT_METHOD_FAILED, EXIT_OK, UsageError
from tui.commands.held_back import held_back
from tui.commands.host_options import refuse_moved
from tui.commands.on_hosts import found_on_its_host, resume_on
from tui.commands.store import all_sessions, find, store
from tui.option_arguments import said
from tui.words.terminal_text import one_line

PATIENCE_S = 60.0


def stop(options: argparse.Namespace) -> int:
    """Ask a running session, by default the newest, to stop, and wait until it is saved."""
    if options.session is None:
        live = store().live()
        if not live:
            raise UsageError("No session is running.")
        folder = find(live[0])
    else:
        folder = find(options.session)
    if not folder.is_live() and not found_on_its_host(folder):
        raise UsageError(f"{folder.id} is not running.")
    try:
        folder.ask("stop")
    except SessionError as error:
        raise UsageError(str(error)) from None
    deadline = time.monotonic() + PATIENCE_S
    while folder.is_live():
        if time.monotonic() > deadline:
            sys.stderr.write(f"{folder.id} has been asked to stop but has not ended in {PATIENCE_S:.0f} s.\n")
            return EXIT_METHOD_FAILED
        time.sleep(0.1)
    sys.stdout.write(f"{folder.id} is {one_line(recover(folder))}; what was measured is saved.\n")
    return EXIT_OK


def resume(options: argparse.Namespace) -> int:
    """Run the missing blocks of a session, or more than it was to have, and follow it."""
    folder = find(options.session, all_sessions(options.store))
    try:
        asked = Extension.of(said(options, extension_options()))
        refuse_moved(folder, options)
        recover(folder)
        if (host := host_of(folder.path)) is not None:
            return resume_on(folder, host, options)
        with held_back() as pressed:
            begun = launch_again(folder, home(), options.anyway) if asked is None else True
            if asked is not None:
                extend(folder, asked, home(), options.anyway)
            from tui.commands.following import outcome, watch_own  # takes half a second: the session begins in it
    except (SessionError, OptionError) as error:
        raise UsageError(str(error)) from None
    if not begun:
        sys.stderr.write(f"{folder.id} is complete: every block has run to its end.\n")
        return outcome(folder, as_json=False)
    if options.detach:
        sys.stdout.write(f"{folder.id}\n")
        return EXIT_OK
    if watch_own(folder, pressed, quiet=False):
        return EXIT_INTERRUPTED
    return outcome(folder, as_json=False)
