"""What a running command shows: a block drawn in place on a terminal, elsewhere lines that are each printed once."""

from __future__ import annotations

from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live as RichLive
from rich.text import Text


class LiveBlock:
    """Used as a context. `footer` is for subclasses to draw below the rest."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # drawn where it is shown: rich's own thread would draw the same once more
        self._live = RichLive(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._said: set[str] = set()
        self.footer = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _draw(self, block: RenderableType) -> None:
        """Draw it in place of the last one; only on a terminal."""
        if self._live is not None:
            self._live.update(block, refresh=True)

    def _say(self, line: str) -> None:
        """Print a line that has not been printed yet."""
        if line not in self._said:
            self._said.add(line)
            self._console.print(Text(line), soft_wrap=True)
