"""`--on`: sessions on other hosts, begun, followed and steered from here, and asked what they can run."""

from __future__ import annotations

import argparse
import random
import sys

from methods.base.home import home
from sessions.disk.extension import Extension
from sessions.disk.extension import options as extension_options
from sessions.disk.host_file import OnHost, host_of
from sessions.disk.session_folder import UNFINISHED, SessionError, SessionFolder
from sessions.hosts import begin as hosts
from sessions.hosts.asking import Doctored
from sessions.hosts.hosts import HostError
from sessions.hosts.messages import RunAsked
from sessions.planning.wanted import Wanted
from tui.command_line import EXIT_INTERRUPTED, EXIT_OK, UsageError
from tui.commands.held_back import held_back
from tui.commands.host_options import as_it_is_now, named
from tui.option_arguments import said


def run_on(options: argparse.Namespace, asked: Wanted) -> int:
    """Begin the same session on each host, follow them all, and show how each ended."""
    try:
        on, chosen = named(options)
        run = RunAsked(
            said={"seed": random.SystemRandom().randrange(2**31), **asked.said},  # the same on all of them
            methods=list(asked.methods),
            command=[word.encode(errors="replace").decode() for word in asked.command],
        )
        with held_back() as pressed:
            folders = hosts.begin(home(), on, chosen, run)
    except HostError as error:
        raise UsageError(str(error)) from None
    if options.detach:
        for name, folder in zip(chosen, folders, strict=True):
            sys.stdout.write(f"{folder.id}\n")
            sys.stderr.write(f"Running on {name}: `kasoku attach {folder.id}` shows it.\n")
        return EXIT_OK
    from tui.commands.following_hosts import outcomes, watch_hosts

    if watch_hosts(folders, pressed, quiet=options.json):
        sys.stderr.write(f"Left; {', '.join(each.id for each in folders)} are being stopped and saved.\n")
        return EXIT_INTERRUPTED
    return outcomes(folders, options.json)


def found_on_its_host(folder: SessionFolder, options: argparse.Namespace | None = None) -> bool:
    """Whether a session that nobody carries is one of another host, and was not over when it was last heard of; then it
    is carried again, from where the options say that the host is now. UsageError if it cannot be asked."""
    host = host_of(folder.path)
    try:
        if host is None or folder.read().status not in (*UNFINISHED, "interrupted"):
            return False
        hosts.attach(home(), folder, host if options is None else as_it_is_now(host, options))
    except (HostError, SessionError) as error:
        raise UsageError(str(error)) from None
    return True


def resume_on(folder: SessionFolder, host: OnHost, options: argparse.Namespace) -> int:
    """Resume or extend a session on its host, and follow it from here."""
    from tui.commands.following import outcome, watch_own

    more = said(options, extension_options())
    try:
        host = as_it_is_now(host, options)
        with held_back() as pressed:
            begun = hosts.resume(home(), folder, host, None if Extension.of(more) is None else more)
    except HostError as error:
        raise UsageError(str(error)) from None
    if not begun:
        sys.stderr.write(f"Nothing is begun on {host.host}: {folder.id} is complete there, or at work.\n")
    if options.detach:
        sys.stdout.write(f"{folder.id}\n")
        return EXIT_OK
    if watch_own(folder, pressed, quiet=False):
        return EXIT_INTERRUPTED
    return outcome(folder, as_json=False)


def examined(options: argparse.Namespace) -> Doctored:
    """What each host of `kasoku doctor --on` says of itself. UsageError where none can be asked."""
    try:
        on, chosen = named(options)
        return hosts.examine(home(), on, chosen, options.create_environments)
    except HostError as error:
        raise UsageError(str(error)) from None
