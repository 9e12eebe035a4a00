"""The console that commands print on: as wide as the terminal, and wide enough for a table where there is none."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console

WIDTH_OF_A_FILE = 160


class _Console(Console):
    """Leaves it to the command line what a reader that is gone means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console(file: TextIO | None = None, quiet: bool = False) -> Console:
    """A console on `file` (stdout) that colours nothing by itself."""
    stream = file or sys.stdout
    width = None if stream.isatty() else WIDTH_OF_A_FILE
    return _Console(file=stream, width=width, quiet=quiet, highlight=False)
