"""What all screens share: typed access to the app, and the handling of failed workers."""

from __future__ import annotations

from typing import cast

from textual.screen import Screen
from textual.worker import Worker, WorkerState

from tui.widgets.workbench_app import WorkbenchApp


class WorkbenchScreen(Screen[None]):
    """Workers are started with exit_on_error=False; one that fails becomes a sentence, and the app goes on."""

    AUTO_FOCUS = ""

    @property
    def workbench(self) -> WorkbenchApp:
        """The app, as what it is."""
        return cast("WorkbenchApp", self.app)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            self.workbench.report_failure(event.worker.name or "A background task", error)
