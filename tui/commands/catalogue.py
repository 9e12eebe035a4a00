"""`kasoku methods`: the catalogue, and what can run here."""

from __future__ import annotations

import argparse
import sys

from methods.base.home import config_folder, home
from methods.catalogue.availability import DeviceFacts, choices
from methods.catalogue.catalogue import load_catalogue
from tui.command_line import EXIT_OK
from tui.words.terminal_text import json_document, one_line


def methods(options: argparse.Namespace) -> int:
    """Group by group, a row per method: what it is, its reference, how it differs, and whether it can run here."""
    catalogue = load_catalogue(config_folder())
    device = _device()
    rows = []
    for choice in choices(catalogue, device, home(), config_folder()):
        method, lack = choice.method, choice.unavailable
        rows.append(
            {
                "method": method.name,
                "group": method.group,
                "summary": method.summary,
                "reference": method.reference,
                "differs": method.differs,
                "good_for": method.good_for,
                "environment": choice.environment,
                "device": device.kind,
                "available": lack is None,
                "reason": lack.reason if lack else "",
                "remedy": lack.remedy if lack else "",
            }
        )
    if options.json:
        sys.stdout.write(json_document(rows))
        return EXIT_OK
    width = max((len(str(row["method"])) for row in rows), default=0)
    group = None
    for row in rows:
        if row["group"] != group:
            sys.stdout.write(f"{'' if group is None else chr(10)}{one_line(str(row['group']), 80)}:\n")
            group = row["group"]
        against = f" (against {row['reference']})" if row["reference"] else ""
        sys.stdout.write(f"{row['method']:<{width}}  {one_line(str(row['summary']), 300)}\n")
        sys.stdout.write(f"{'':<{width}}  {one_line(str(row['differs']), 300)}{against}\n")
        if not row["available"]:
            fix = f" Fix: `{row['remedy']}`." if row["remedy"] else ""
            sys.stdout.write(f"{'':<{width}}  unavailable: {one_line(str(row['reason']), 300)}{fix}\n")
    for problem in catalogue.problems:
        sys.stderr.write(f"kasoku: {one_line(problem, 400)}\n")
    return EXIT_OK


def _device() -> DeviceFacts:
    """A GPU if its driver is installed, otherwise the CPU; NVML is not started for a listing."""
    from methods.environments.torch_builds import has_nvidia_driver

    return DeviceFacts("cuda", "this GPU") if has_nvidia_driver() else DeviceFacts("cpu")
