"""`kasoku models`: the models that are ready, and fetching more."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from methods.base.home import HomeError, config_folder, home
from methods.environments import environments
from methods.models import models
from methods.models.quantisation import name_of
from methods.models.sources import ambiguity
from tui.command_line import EXIT_OK, UsageError
from tui.commands.progress import ProgressLines
from tui.words.figures import size
from tui.words.terminal_text import json_document, one_line, plain


def list_models(options: argparse.Namespace) -> int:
    """Models that are ready, and those that Kasoku can create."""
    rows = models.listed(home())
    if options.json:
        sys.stdout.write(json_document([asdict(row) for row in rows]))
        return EXIT_OK
    for row in rows:
        facts: list[str] = [row.state]
        if row.model is not None:
            if row.model.parameters is not None:
                facts.append(f"{row.model.parameters / 1e6:.0f} M parameters")
            facts += [size(row.model.weights_bytes), row.model.dtype]
            if row.model.quantisation is not None:
                facts.append(f"quantised ({name_of(row.model.quantisation)})")
            facts += [str(row.model.architecture or ""), f"context {row.model.context_length}"]
        sys.stdout.write(one_line(f"{row.spec}: {', '.join(fact for fact in facts if fact)}", 600) + "\n")
        if row.summary:
            sys.stdout.write(f"    {one_line(row.summary, 300)}\n")
    return EXIT_OK


def fetch(options: argparse.Namespace) -> int:
    """Fetch and convert one, so that a run finds it ready."""
    try:
        if said := ambiguity(options.model):
            sys.stderr.write(plain(said) + "\n")
        models.check(options.model, home())
        converter = environments.resolve("torch", home(), config_folder())
        with ProgressLines() as lines:
            model = models.prepare(options.model, home(), converter, lines.report)
    except (models.ModelError, HomeError) as error:
        raise UsageError(str(error)) from None
    sys.stdout.write(plain(f"{model.source} is ready: {model.folder}") + "\n")
    return EXIT_OK
