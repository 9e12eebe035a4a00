"""`kasoku calibrate METHOD --neighbours N`: what rounds side by side cost each other on this machine."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import msgspec

from methods.base.home import HomeError, config_folder, home
from methods.base.progress import Progress
from sessions.calibrate.calibration_session import CalibrationError
from sessions.calibrate.neighbours import NeighboursCalibrator
from sessions.disk.options import MOST_LANES
from sessions.disk.session_folder import SessionError
from sessions.planning.make import make_plan
from sessions.planning.wanted import PlanError, Wanted
from sessions.verdict.neighbours import ALONE, Neighbours
from tui.command_line import CALIBRATE_TAKES, EXIT_METHOD_FAILED, UsageError
from tui.commands.calibration_words import effect_rows, ended, heading
from tui.commands.progress import ProgressLines
from tui.words.terminal_text import json_document, one_line, plain


def calibrate_neighbours(options: argparse.Namespace) -> int:
    """Measure, keep, and print what the neighbours cost."""
    if not 2 <= options.neighbours <= MOST_LANES:
        raise UsageError(f"--neighbours {options.neighbours}: give 2 to {MOST_LANES} rounds at once.")
    if options.only or options.concurrency is not None:
        raise UsageError("--neighbours goes with neither --only nor --concurrency: leave those out.")
    try:
        plan = make_plan(
            Wanted(
                {
                    "requests": NeighboursCalibrator.requests_of(options.rounds) * options.blocks,
                    "blocks": options.blocks,
                    "warmup": max(1, options.warmup),
                    "spread": options.neighbours,
                    **{name: getattr(options, name) for name in CALIBRATE_TAKES},
                },
                methods=(options.method,),
                command=("kasoku", *options.argv),
            ),
            home(),
            config_folder(),
        )
    except (PlanError, SessionError) as error:
        raise UsageError(str(error)) from None
    with ProgressLines() as lines:

        def told(phase: str, done: int, total: int) -> None:
            lines.report(Progress("calibrate", phase, done, total))

        try:
            calibrator = NeighboursCalibrator(plan, home(), told)
            found = calibrator.carry_out()
        except (CalibrationError, SessionError, HomeError) as error:
            sys.stderr.write(f"kasoku: {one_line(str(error), 600)}\n")
            return EXIT_METHOD_FAILED
    if options.json:
        sys.stdout.write(json_document(msgspec.to_builtins(found)))
    else:
        sys.stdout.write("\n".join(table(found)) + "\n")
    return ended(options, calibrator.stopped)


def table(found: Neighbours) -> Sequence[str]:
    """The calibration for people."""
    rows = [*heading(found, f" with {found.lanes - 1} beside it"), *effect_rows(found.effects, ALONE)]
    if found.resolution is not None:
        rows.append(
            f"alone it seems to cost up to {100 * found.resolution:.1f} % against itself: nothing smaller can be seen"
            " here, and more rounds see more"
        )
    return [plain(row) for row in rows]
