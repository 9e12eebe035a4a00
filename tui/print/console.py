"""The console that commands print on: as wide as the terminal, or wide enough for a table if there is none."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console

WIDTH_OF_A_FILE = 160


class _Console(Console):
    """Leaves a closed reader to the command line."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(file: TextIO | None = None, quiet: bool = False) -> Console:
    """A console on `file` (stdout) without automatic colouring."""
    stream = file or sys.stdout
    width = None if stream.isatty() else WIDTH_OF_A_FILE
    return _Console(file=stream, width=width, quiet=quiet, highlight=False)
