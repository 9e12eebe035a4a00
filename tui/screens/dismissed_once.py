"""Makes a screen on top of another close only once, however often it is asked to."""

from __future__ import annotations

from typing import Any

from textual.await_complete import AwaitComplete
from textual.screen import Screen


class DismissedOnce:
    """Keys come faster than screens go: a second enter would take away whatever lies beneath, the last one too.

    To be put before the kind of screen. It is none itself, since Textual takes styles from the first base that is one.
    """

    def dismiss(self, result: Any = None) -> AwaitComplete:
        assert isinstance(self, Screen)  # noqa: S101 - what it is put before
        if self.app.screen is not self:
            done: AwaitComplete = AwaitComplete.nothing()  # type: ignore[no-untyped-call]
            return done
        return Screen.dismiss(self, result)
