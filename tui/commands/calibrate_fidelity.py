"""`kasoku calibrate --fidelity`: how large a loss seems where there is none, on this machine."""

from __future__ import annotations

import argparse
import sys

import msgspec

from methods.base.home import HomeError, config_folder, home
from sessions.calibrate.calibrated_floor import floor_plans, keep_floors
from sessions.calibrate.calibration_session import CalibrationError
from sessions.close.session_end import recover
from sessions.disk.session_folder import SessionError
from sessions.planning.wanted import PlanError
from sessions.run.launch import launch
from sessions.verdict.fidelity_columns import SessionFloors
from tui.command_line import CALIBRATE_TAKES, EXIT_INTERRUPTED, EXIT_METHOD_FAILED, EXIT_OK, UsageError
from tui.commands.following import watch_own
from tui.commands.held_back import held_back
from tui.commands.store import store
from tui.words.terminal_text import json_document, one_line


def calibrate_fidelity(options: argparse.Namespace) -> int:
    """Measure in sessions, which stay, keep the floors, and say them."""
    try:
        said = {name: getattr(options, name) for name in CALIBRATE_TAKES}
        plans = floor_plans(said, ("kasoku", *options.argv), home(), config_folder())
    except (PlanError, SessionError) as error:
        raise UsageError(str(error)) from None
    sessions = []
    try:
        for plan in plans:
            with held_back() as pressed:
                folder = launch(home(), plan)
            if watch_own(folder, pressed, quiet=options.json):
                sys.stderr.write(f"kasoku: Left; {folder.id} is being stopped, and no floor is kept.\n")
                return EXIT_INTERRUPTED
            recover(folder)
            sessions.append(folder.id)
        floors = keep_floors(store(), sessions, home())
    except (CalibrationError, SessionError, HomeError) as error:
        sys.stderr.write(f"kasoku: {one_line(str(error), 600)}\n")
        return EXIT_METHOD_FAILED
    if options.json:
        sys.stdout.write(json_document(msgspec.to_builtins(floors)))
    else:
        sys.stdout.write(f"{one_line(SessionFloors(floors, own=False).sentence(sessions[0]), 600)}\n")
    return EXIT_OK
