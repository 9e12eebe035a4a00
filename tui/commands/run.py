"""`kasoku run`: from the options to a plan, a session, and its table."""

from __future__ import annotations

import argparse
import sys

from methods.base.home import config_folder, home
from methods.models.prompts import PromptError, read_prompt
from sessions.disk.option_table import table
from sessions.disk.options import RunOptions
from sessions.disk.session_folder import SessionError
from sessions.planning.make import make_plan
from sessions.planning.wanted import PlanError, Wanted
from sessions.run.launch import launch
from tui.command_line import EXIT_INTERRUPTED, EXIT_OK, UsageError
from tui.commands.held_back import held_back
from tui.commands.host_options import refuse_host_alone
from tui.option_arguments import said


def run(options: argparse.Namespace) -> int:
    """Plan, launch, follow, and show the outcome."""
    if options.on is not None:
        from tui.commands.on_hosts import run_on

        try:
            return run_on(options, wanted(options))
        except PromptError as error:
            raise UsageError(str(error)) from None
    refuse_host_alone(options)
    try:
        plan = make_plan(wanted(options), home(), config_folder())
        with held_back() as pressed:
            folder = launch(home(), plan)
            if not options.detach:
                from tui.commands.following import outcome, watch_own  # takes half a second: the session begins in it
    except (PlanError, PromptError, SessionError) as error:
        raise UsageError(str(error)) from None
    if options.detach:
        sys.stdout.write(f"{folder.id}\n")
        sys.stderr.write(f"Running in the background: `kasoku attach {folder.id}` shows it, `kasoku stop` stops it.\n")
        return EXIT_OK
    if watch_own(folder, pressed, quiet=options.json):
        sys.stderr.write(f"Left; {folder.id} is being stopped and saved: `kasoku show {folder.id}`.\n")
        return EXIT_INTERRUPTED
    return outcome(folder, options.json)


def wanted(options: argparse.Namespace) -> Wanted:
    """The request in the options. PromptError if the prompt cannot be read."""
    asked = said(options, table(RunOptions))
    if isinstance(prompt := asked["prompt"], str):
        asked["prompt"] = read_prompt(prompt, sys.stdin)
    return Wanted(asked, methods=options.method, command=("kasoku", *options.argv))
