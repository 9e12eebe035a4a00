"""A preparation's progress on stderr: one line in place on a terminal, otherwise a line per step."""

from __future__ import annotations

import sys

from methods.base.progress import Progress
from tui.words.figures import size
from tui.words.terminal_text import one_line


class ProgressLines:
    """Used as a context; `report` is the callback."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def __enter__(self) -> ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def report(self, progress: Progress) -> None:
        """Show one step."""
        amount = ""
        if progress.done is not None and self._terminal:
            shown = size if progress.unit == "bytes" else str
            amount = f" {shown(progress.done)}" + (f" of {shown(progress.total)}" if progress.total else "")
        line = one_line(f"{progress.phase}: {progress.detail}{amount}", 110)
        if line == self._last:
            return
        self._last = line
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
