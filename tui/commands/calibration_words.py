"""What the calibrations of tokens/s say alike."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

from sessions.verdict.neighbours import Neighbours
from sessions.verdict.observer_effect import Calibration, Effect
from tui.command_line import EXIT_INTERRUPTED, EXIT_OK


def heading(calibration: Calibration | Neighbours, load: str) -> Sequence[str]:
    """What was calibrated, where and when."""
    day = time.strftime("%Y-%m-%d", time.localtime(calibration.t_realtime_ns / 1e9))
    machine = calibration.machine
    device = ", ".join(gpu.name for gpu in machine.gpus) or machine.cpu_model
    count = calibration.processes
    return [
        f"{calibration.method}{load} · {calibration.model} · {calibration.device} ({device}) · {day}",
        f"{count} process{'es' if count != 1 else ''}, {calibration.tokens_per_request} tokens per request",
    ]


def effect_rows(effects: Sequence[Effect], bare: str) -> Iterator[str]:
    """The effects as a table; `bare` is the condition that the others are compared with."""
    yield f"{'condition':<24} {'tok/s':>8} {'rounds':>7} {'cost':>9}   95 % interval"
    for effect in effects:
        shown = f"{effect.condition:<24} {effect.tok_s_median:>8.2f} {effect.rounds:>7}"
        if effect.condition != bare:
            shown += f" {100 * effect.cost:>+7.2f} %   {_interval(effect)}"
        yield shown


def _interval(effect: Effect) -> str:
    if effect.cost_low is None or effect.cost_high is None:
        return "too few rounds: at least 3 needed"
    return f"{100 * effect.cost_low:+.2f} to {100 * effect.cost_high:+.2f} %"


def ended(options: argparse.Namespace, stopped: bool) -> int:
    """The exit code, and a word on rounds that are missing."""
    if not stopped:
        return EXIT_OK
    planned = options.blocks * options.rounds
    sys.stderr.write(f"kasoku: Stopped before all {planned} rounds; completed ones are kept.\n")
    return EXIT_INTERRUPTED
