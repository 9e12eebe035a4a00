"""All running: the sessions that run now, of this machine and of other hosts, a panel each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui.own_share import OwnShare
from tui.screens.workbench_screen import WorkbenchScreen
from tui.widgets.key_bar import KeyBar
from tui.widgets.methods_table import MethodsTable
from tui.widgets.points_table import PointsTable
from tui.widgets.session_line import SessionLine
from tui.widgets.theme import titled
from tui.words.host_words import OUT_OF_REACH
from tui.words.terminal_text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessions.disk.session_folder import SessionFolder
    from tui.read.session_watch import SessionWatch, View

MOST = 16  # followed at once: each takes a thread and a part of the screen


class SessionPanel(VerticalScroll):
    """One session: its line and its race. `place` says where it runs."""

    def __init__(self, folder: SessionFolder, place: str) -> None:
        super().__init__(classes="session")
        self.folder, self.place = folder, place
        titled(self, "")
        self.show_reach(lost=False)

    def compose(self) -> ComposeResult:
        yield SessionLine()
        yield MethodsTable()
        yield PointsTable()

    def show_reach(self, *, lost: bool) -> None:
        """Say in the title whether the host can be reached."""
        said = f"{self.place} · {self.folder.id}" + (f" · {OUT_OF_REACH}" if lost else "")
        self.border_title = Content(said)
        self.set_class(lost, "lost")

    def show_view(self, view: View) -> None:
        self.show_reach(lost=view.lost)
        self.query_one(SessionLine).show_live(view.live, view.plan, closing=view.closing)
        table, points = self.query_one(MethodsTable), self.query_one(PointsTable)
        table.display, points.display = not view.live.points, bool(view.live.points)
        table.show_live(view.live)
        points.show_live(view.live)


class AllRunningScreen(WorkbenchScreen):
    """Follows each of them as the Run screen follows one."""

    CSS_PATH = "all_running.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "watch", id="all.open", tooltip="Watch this session alone"),
        Binding("s", "stop", "stop all", id="all.stop", tooltip="Stop all of them; what was measured is saved"),
        Binding("escape", "close", "back", id="all.close", tooltip="Back to the Run screen"),
    ]

    class Found(Message):
        """The sessions that run, each with where it runs."""

        def __init__(self, running: Sequence[tuple[SessionFolder, str]], more: int) -> None:
            super().__init__()
            self.running, self.more = running, more

    class Arrived(Message):
        """From a watching thread: a view, or a sentence that says why there is none."""

        def __init__(self, watch: SessionWatch, what: View | str) -> None:
            super().__init__()
            self.watch, self.what = watch, what

    def __init__(self) -> None:
        super().__init__()
        self._share = OwnShare()
        self._watches: list[SessionWatch] = []

    def compose(self) -> ComposeResult:
        yield Static("Looking for running sessions…", id="said")
        yield VerticalScroll(id="panels", can_focus=False)
        yield KeyBar()

    def on_mount(self) -> None:
        self.set_interval(1 / self.workbench.settings.fps, self._tick)
        self.look()

    def on_unmount(self) -> None:
        for watch in self._watches:
            watch.close()

    # What is shown

    @work(thread=True, exit_on_error=False, name="Looking for running sessions")
    def look(self) -> None:
        from sessions.disk.host_file import host_of

        folders = self.workbench.store.at_work()
        hosts = [host_of(folder.path) for folder in folders[:MOST]]
        places = [one_line(host.host, 40) if host is not None else "here" for host in hosts]
        self.post_message(self.Found(list(zip(folders, places, strict=False)), max(0, len(folders) - MOST)))

    @on(Found)
    async def show_found(self, event: Found) -> None:
        from tui.read.session_watch import SessionWatch

        count = len(event.running)
        said = f"{count} session{'' if count == 1 else 's'} running" if count else "No session is running."
        self.query_one("#said", Static).update(Content(said + (f", and {event.more} more" if event.more else "")))
        panels = [SessionPanel(folder, place) for folder, place in event.running]
        await self.query_one("#panels").mount_all(panels)
        for panel in panels:
            watch = SessionWatch(panel.folder, self._deliver, replay=False)
            self._watches.append(watch)
            self.call_after_refresh(watch.start)  # its views come to widgets that know their size
        if panels:
            panels[0].focus()

    def _deliver(self, watch: SessionWatch, what: View | str) -> None:
        self.post_message(self.Arrived(watch, what))

    def _tick(self) -> None:
        if self.is_current and self.workbench.link.is_free() and self._share.is_free():
            for watch in self._watches:
                watch.want()

    @on(Arrived)
    def show_arrived(self, event: Arrived) -> None:
        panel = next((panel for panel in self.query(SessionPanel) if panel.folder is event.watch.folder), None)
        if panel is None:
            return
        if isinstance(event.what, str):
            self.workbench.notify(event.what, severity="error", timeout=15, markup=False)
            return
        self.workbench.ask_after_display()
        panel.show_view(event.what)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        return bool(self._watches) if action in ("open", "stop") else True

    def action_close(self) -> None:
        self.app.pop_screen()

    async def action_open(self) -> None:
        panel = next((panel for panel in self.query(SessionPanel) if panel.has_focus), None)
        if panel is not None:
            await self.workbench.watch_session(panel.folder)

    @work(exit_on_error=False, name="Stopping")
    async def action_stop(self) -> None:
        from sessions.disk.session_folder import SessionError
        from tui.screens.ask import Confirm

        running = [watch.folder for watch in self._watches if watch.folder.is_live()]
        question = f"Stop all {len(running)} sessions? What was measured is saved, and can be resumed."
        if not running or not await self.app.push_screen_wait(Confirm(question)):
            return
        for folder in running:
            try:
                folder.ask("stop")
            except SessionError as error:
                self.workbench.notify(str(error), severity="error", markup=False)
        self.workbench.notify("Stopping: each finishes its request and saves what was measured.", markup=False)
