"""`kasoku env`: the environments that methods run in."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from methods.base.home import HomeError, config_folder, home
from methods.base.user_path import absolute, storable
from methods.environments import environments
from tui.command_line import EXIT_METHOD_FAILED, EXIT_OK, UsageError
from tui.commands.progress import ProgressLines
from tui.words.figures import size
from tui.words.terminal_text import json_document, one_line, plain


def list_environments(options: argparse.Namespace) -> int:
    """Every environment described or created: its state, Python, size and versions."""
    rows = environments.listed(home(), config_folder())
    if options.json:
        sys.stdout.write(json_document([asdict(row) for row in rows]))
        return EXIT_OK
    for row in rows:
        versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
        python = f"Python {row.python_version}" if row.python_version else str(row.python or "")
        facts = [fact for fact in (row.state, python, size(row.size_bytes) if row.size_bytes else "", versions) if fact]
        sys.stdout.write(f"{one_line(row.name, 80)}: {one_line(', '.join(facts), 400)}\n")
        for text in (row.purpose, row.reason):
            if text:
                sys.stdout.write(f"    {one_line(text, 400)}\n")
    return EXIT_OK


def create(options: argparse.Namespace) -> int:
    """Create one with uv, showing uv's output."""
    try:
        with ProgressLines() as lines:
            made = environments.create(
                options.name, home(), config_folder(), backend=options.backend, report=lines.report
            )
    except environments.EnvironmentProblemError as error:
        raise UsageError(str(error)) from None
    except (environments.CreationError, HomeError) as error:
        sys.stderr.write(f"kasoku: {one_line(str(error), 2000)}\n")
        return EXIT_METHOD_FAILED
    sys.stdout.write(plain(f"{options.name} is ready: {made.python}") + "\n")
    return EXIT_OK


def use(options: argparse.Namespace) -> int:
    """Point one at an existing interpreter."""
    variables = {}
    for pair in options.variable:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"--variable {pair} is not NAME=VALUE.")
        variables[name] = value
    paths = tuple(str(storable(absolute(path))) for path in options.path)
    try:
        chosen = environments.use(
            options.name, Path(options.python), home(), config_folder(), paths=paths, variables=variables
        )
    except (environments.EnvironmentProblemError, HomeError) as error:
        raise UsageError(str(error)) from None
    sys.stdout.write(
        plain(f"{options.name} now uses {chosen.python}; `kasoku env remove {options.name}` undoes that.\n")
    )
    return EXIT_OK


def remove(options: argparse.Namespace) -> int:
    """Delete what was created under that name, and the pointer to an interpreter."""
    try:
        gone = environments.remove(options.name, home(), config_folder())
    except (environments.EnvironmentProblemError, HomeError) as error:
        raise UsageError(str(error)) from None
    sys.stdout.write("".join(f"removed {plain(str(path))}\n" for path in gone))
    return EXIT_OK
