"""What all screens share: typed access to the app, and the handling of failed workers."""

from __future__ import annotations

from typing import cast

from textual import events, on
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from tui.widgets.too_small import TooSmall
from tui.widgets.workbench_app import WorkbenchApp


class WorkbenchScreen(Screen[None]):
    """Workers are started with exit_on_error=False; one that fails becomes a sentence, and the app goes on."""

    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    WorkbenchScreen { layers: default over; }
    """

    @property
    def workbench(self) -> WorkbenchApp:
        """The app, as what it is."""
        return cast("WorkbenchApp", self.app)

    @on(events.Mount)
    async def mount_too_small(self) -> None:
        await self.mount(TooSmall())
        self._judge_size()

    @on(events.Resize)
    def judge_size(self) -> None:
        if self.query(TooSmall):  # it is mounted after the first one
            self._judge_size()

    def _judge_size(self) -> None:
        self.set_class(self.query_one(TooSmall).judge(self.app.size), "tiny")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            self.workbench.report_failure(event.worker.name or "A background task", error)
