"""The driver of a workbench that is shown in a browser: packets on stdin and stdout, as textual-serve has them."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

from textual import messages
from textual.drivers.web_driver import WebDriver

from tui.link import AskingDriver, link_of

if TYPE_CHECKING:
    from textual.app import App

LEAVING_S = 10.0


class BrowserDriver(AskingDriver, WebDriver):
    """Textual's for browsers, which also paces frames, keeps to the setting of the mouse, and ends with the server."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self.link = link_of(app)
        self._write = self._write_if_read  # type: ignore[assignment]

    def _write_if_read(self, packet: bytes) -> int:
        with contextlib.suppress(BrokenPipeError):  # the server is gone; the end of stdin says it too
            return os.write(self.fileno, packet)
        return len(packet)

    def start_application_mode(self) -> None:
        super().start_application_mode()
        if not self._mouse:
            self._disable_mouse_support()

    def run_input_thread(self) -> None:
        """As Textual's, which lets an app live on that nobody can reach any more."""
        super().run_input_thread()
        if self.exit_event.is_set():
            return
        self._app.post_message(messages.ExitApp())
        if not self.exit_event.wait(LEAVING_S):
            os._exit(128 + signal.SIGHUP)
