"""What all screens share: typed access to the app, and the handling of failed workers."""

from __future__ import annotations

from typing import Any, cast
from weakref import WeakKeyDictionary

from textual import events, on
from textual.geometry import Size
from textual.screen import Screen
from textual.widget import Widget
from textual.worker import Worker, WorkerState

from tui.widgets.too_small import TooSmall
from tui.widgets.workbench_app import WorkbenchApp


class WorkbenchScreen(Screen[None]):
    """Workers are started with exit_on_error=False; one that fails becomes a sentence, and the app goes on."""

    AUTO_FOCUS = ""
    DEFAULT_CSS = """
    WorkbenchScreen { layers: default over; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._sizes: WeakKeyDictionary[Widget, Size] = WeakKeyDictionary()  # as each widget was last told

    @property
    def workbench(self) -> WorkbenchApp:
        """The app, as what it is."""
        return cast("WorkbenchApp", self.app)

    @on(events.Mount)
    async def mount_too_small(self) -> None:
        await self.mount(TooSmall())
        self._judge_size()
        self.screen_layout_refresh_signal.subscribe(self, self._tell_sizes, immediate=True)

    def _tell_sizes(self, _: Screen[Any]) -> None:
        """Tell each widget that asks for it the size it was given.

        Textual finds the resized ones by the layout before. A layout made for a look at a region counts as that one,
        and tells nobody. Where a widget was told already, the queue makes one event of the two.
        """
        for widget in self.walk_children(Widget):
            size = widget.outer_size
            if hasattr(widget, "on_resize") and size and self._sizes.get(widget) != size:
                self._sizes[widget] = size
                widget.post_message(events.Resize(size, widget.virtual_size, widget.container_size))

    @on(events.Resize)
    def judge_size(self) -> None:
        self._judge_size()

    def _judge_size(self) -> None:
        for small in self.query(TooSmall):  # not there before the first size, nor where the app ends meanwhile
            self.set_class(small.judge(self.app.size), "tiny")

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        if event.state is WorkerState.ERROR:
            error = event.worker.error
            self.workbench.report_failure(event.worker.name or "A background task", error)
