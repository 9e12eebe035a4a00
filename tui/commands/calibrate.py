"""`kasoku calibrate METHOD`: what the workbench costs a measurement on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

import msgspec

from methods.base.home import HomeError, config_folder, home
from methods.base.progress import Progress
from sessions.calibrate.calibration import WAVES, Calibrator
from sessions.calibrate.calibration_session import CalibrationError
from sessions.disk.loads import MOST_IN_FLIGHT
from sessions.disk.session_folder import SessionError
from sessions.planning.make import make_plan
from sessions.planning.wanted import PlanError, Wanted
from sessions.run.own_process import own_process
from sessions.verdict.observer_effect import APP, BARE, JOURNAL, RUNNER, SLOW_APP, TELEMETRY, Calibration
from tui.command_line import CALIBRATE_TAKES, EXIT_METHOD_FAILED, UsageError
from tui.commands.calibration_words import effect_rows, ended, heading
from tui.commands.progress import ProgressLines
from tui.words.terminal_text import json_document, one_line, plain

KASOKU = tuple(own_process("tui.command_line"))
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {  # as --only calls it: its condition, and its viewer's command
    "runner": (RUNNER, ()),
    "telemetry": (TELEMETRY, ()),
    "viewer": (JOURNAL, (*KASOKU, "attach", "{session}")),
    "app": (APP, KASOKU),
    "slow-link": (SLOW_APP, KASOKU),
}


def calibrate(options: argparse.Namespace) -> int:
    """Measure, keep, and print the effect of each part."""
    if options.fidelity:
        from tui.commands.calibrate_fidelity import calibrate_fidelity

        return calibrate_fidelity(options)
    if options.method is None:
        raise UsageError("Name the method to calibrate, or say --fidelity: `kasoku calibrate baseline`.")
    for number in (signal.SIGINT, signal.SIGTERM):  # the former is ignored below nohup and in a script's background
        signal.signal(number, signal.default_int_handler)
    if options.rounds < 1:
        raise UsageError(f"--rounds {options.rounds} is too few: an interval takes at least 3.")
    if options.neighbours is not None:
        from tui.commands.calibrate_neighbours import calibrate_neighbours

        return calibrate_neighbours(options)
    if options.concurrency is not None and not 2 <= options.concurrency <= MOST_IN_FLIGHT:
        raise UsageError(
            f"--concurrency {options.concurrency}: give 2 to {MOST_IN_FLIGHT} in flight, or leave it out for one."
        )
    wanted = options.only or [name for name in PARTS if name != "slow-link"]
    parts = dict(PARTS[name] for name in wanted)
    per_block = Calibrator.requests_of(options.rounds, parts)
    try:
        plan = make_plan(
            Wanted(
                {
                    "requests": per_block * options.blocks,
                    "blocks": options.blocks,
                    "warmup": max(1, options.warmup),
                    **{name: getattr(options, name) for name in CALIBRATE_TAKES},
                    **({} if options.concurrency is None else {"concurrency": str(options.concurrency)}),
                },
                methods=(options.method,),
                command=("kasoku", *options.argv),
            ),
            home(),
            config_folder(),
        )
        if options.concurrency is not None:
            plan = Calibrator.with_points(plan, options.rounds, parts)
    except (PlanError, SessionError, CalibrationError) as error:
        raise UsageError(str(error)) from None
    with ProgressLines() as lines:

        def told(phase: str, done: int, total: int) -> None:
            lines.report(Progress("calibrate", phase, done, total))

        try:
            calibrator = Calibrator(plan, home(), parts, told)
            calibration = calibrator.carry_out()
        except (CalibrationError, SessionError, HomeError) as error:
            sys.stderr.write(f"kasoku: {one_line(str(error), 600)}\n")
            return EXIT_METHOD_FAILED
    if options.json:
        sys.stdout.write(json_document(msgspec.to_builtins(calibration)))
    else:
        sys.stdout.write("\n".join(table(calibration)) + "\n")
    return ended(options, calibrator.stopped)


def table(calibration: Calibration) -> Sequence[str]:
    """The calibration for people."""
    in_flight = calibration.concurrency
    rows = [*heading(calibration, calibration.load)]
    if in_flight is not None:
        rows.append(
            f"a rate is of {WAVES * in_flight} requests together, {in_flight} at a time, from first to last token"
        )
    rows += effect_rows(calibration.effects, BARE)
    if calibration.resolution is not None:
        rows.append(
            f"the bare loop seems to cost up to {100 * calibration.resolution:.1f} % against itself:"
            " nothing smaller can be seen here, and more rounds see more"
        )
    if calibration.app_cpu_percent is not None:
        rows.append(f"the app itself used {calibration.app_cpu_percent:.1f} % of one core")
    if said := calibration.sentence():
        rows.append(f"kept, and quoted with comparisons: {said}")
    return [plain(row) for row in rows]
