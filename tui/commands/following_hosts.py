"""Following a session on each of several hosts from the command line until all have ended."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from sessions.device.affinity import keep_to, shared_out
from sessions.disk.host_file import host_of, is_lost
from sessions.disk.journal import JournalError
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.watch.following import Follower
from tui.command_line import EXIT_INTERRUPTED, EXIT_METHOD_FAILED, EXIT_OK, UsageError
from tui.commands.following import document, exit_code, outcome
from tui.print.console import console
from tui.print.hosts_view import HostLive, HostsView
from tui.words.terminal_text import json_document

FRAME_S = 0.4
STOPPING = "stopping; saving what was measured (ctrl+c again to leave at once)"


def watch_hosts(folders: Sequence[SessionFolder], pressed: list[int], *, quiet: bool) -> bool:
    """Follow until all have ended; True if the user left earlier. The first ctrl+c stops all, the second leaves."""
    keep_to(shared_out().workbench)
    try:
        followers = [Follower(folder) for folder in folders]
        with HostsView(console(sys.stderr if quiet else sys.stdout, quiet)) as view:
            asked = bool(pressed)
            if asked:
                _stop(folders)
            while True:
                try:
                    if _all_over(followers, view):
                        return False
                    time.sleep(FRAME_S)
                except KeyboardInterrupt:
                    if asked:
                        return True
                    asked, view.footer = True, STOPPING
                    _stop(folders)
    except (JournalError, SessionError) as error:
        raise UsageError(str(error)) from None


def _all_over(followers: Sequence[Follower], view: HostsView) -> bool:
    """Read what came of each and show it; whether nothing more is to come."""
    left = False
    shown = []
    for each in followers:
        moved = False
        until = time.monotonic() + FRAME_S / len(followers)
        while time.monotonic() < until and each.poll():
            moved = True
        left = left or moved or not ((each.ended and not each.folder.is_live()) or each.abandoned)
        host = host_of(each.folder.path)
        shown.append(HostLive(host.host if host else "", is_lost(each.folder.path), each.snapshot()))
    view.show(shown)
    return not left


def _stop(folders: Sequence[SessionFolder]) -> None:
    for folder in folders:
        folder.ask("stop")


def outcomes(folders: Sequence[SessionFolder], as_json: bool) -> int:
    """Show how each session ended, as one JSON document if asked; the exit code of the worst."""
    named = {host.host if (host := host_of(folder.path)) else folder.id: folder for folder in folders}
    try:
        if as_json:
            sys.stdout.write(json_document({"hosts": {name: document(folder) for name, folder in named.items()}}))
            codes = [exit_code(folder) for folder in folders]
        else:
            codes = []
            for name, folder in named.items():
                sys.stdout.write(f"\n── {name}\n")
                codes.append(outcome(folder, as_json=False))
    except SessionError as error:
        raise UsageError(str(error)) from None
    return next((code for code in (EXIT_METHOD_FAILED, EXIT_INTERRUPTED) if code in codes), EXIT_OK)
