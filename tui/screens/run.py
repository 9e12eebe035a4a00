"""Run: plan a measurement, or watch the running one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.getters import query_one
from textual.message import Message
from textual.widgets import ContentSwitcher

from tui.own_share import OwnShare
from tui.screens.more_rounds import add_fidelity, add_rounds, fidelity_binding, more_binding
from tui.screens.workbench_screen import WorkbenchScreen
from tui.widgets.field import TextField
from tui.widgets.flight_grid import FlightGrid
from tui.widgets.key_bar import KeyBar
from tui.widgets.row_list import RowList
from tui.widgets.run_form import RunForm

if TYPE_CHECKING:
    from sessions.disk.session_folder import SessionFolder
    from sessions.verdict.comparison import Comparison
    from tui.read.session_watch import SessionWatch, View
    from tui.widgets.live_view import LiveView


class RunScreen(WorkbenchScreen):
    """The form while nothing is watched, the live view while something is.

    It is the first screen: what only the live view needs is imported once there is something to watch.
    """

    CSS_PATH = "run.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "start", "start", id="run.start", tooltip="Start this run"),
        Binding("c", "create", "create", id="run.create", tooltip="Create the environment that this row needs"),
        Binding("M", "models", "model", id="run.model", tooltip="Choose the model from a list"),
        Binding("escape", "leave_field", "Back", show=False, id="run.leave", tooltip="Leave the field"),
        Binding("s", "stop", "stop", id="run.stop", tooltip="Stop the session; what was measured is saved"),
        Binding("k", "skip", "skip", id="run.skip", tooltip="Skip the running block"),
        Binding("d", "detach", "detach", id="run.detach", tooltip="Quit the app; the session continues"),
        Binding("g", "all", "all running", show=False, id="run.all", tooltip="All running sessions, a panel each"),
        Binding("enter", "open", "open", id="run.open", tooltip="Open the session in full"),
        more_binding("run"),
        fidelity_binding("run"),
        Binding("n", "new", "new run", id="run.new", tooltip="Plan another run"),
        Binding("space", "pause", "pause", id="replay.pause", tooltip="Pause or continue the replay"),
        Binding("plus,equals_sign", "speed(1)", "faster", id="replay.faster", tooltip="Replay faster"),
        Binding("minus", "speed(-1)", "slower", id="replay.slower", tooltip="Replay slower", key_display="-"),
    ]

    form = query_one("#form", RunForm)
    switch = query_one("#switch", ContentSwitcher)

    class Arrived(Message):
        """From the watching thread: a view, or a sentence that says why there is none."""

        def __init__(self, watch: SessionWatch, what: View | str) -> None:
            super().__init__()
            self.watch, self.what = watch, what

    class Settled(Message):
        """The comparison of the session whose watching is over."""

        def __init__(self, watch: SessionWatch, comparison: Comparison) -> None:
            super().__init__()
            self.watch, self.comparison = watch, comparison

    def __init__(self) -> None:
        super().__init__()
        self._share = OwnShare()
        self.watched: SessionWatch | None = None
        self.live: LiveView | None = None
        self._over = False
        self._ended: str | None = None  # what came to its end here and has not been compared since
        self._unscored = False  # its fidelity could be added
        self._offered = 0  # rounds more that would probably settle what is open
        self._models_wanted = False  # once the form has been checked
        self._switching = asyncio.Lock()

    def compose(self) -> ComposeResult:
        with ContentSwitcher(initial="form", id="switch"):
            yield RunForm(id="form")
        yield KeyBar()

    def on_mount(self) -> None:
        self.set_interval(1 / self.workbench.settings.fps, self._tick)
        self.call_after_refresh(self.look_for_running)  # its imports would delay the first paint

    def on_screen_resume(self) -> None:
        if self.watched is None and self.form.checked is not None:
            self.form.check_now()  # an environment may have been created in between

    def on_unmount(self) -> None:
        if self.watched is not None:
            self.watched.close()

    @property
    def running(self) -> str | None:
        """The ID of the live session being followed; None if there is none, or it is a replay."""
        watch = self.watched
        return watch.folder.id if watch is not None and not watch.replay and not self._over else None

    def take_ended(self) -> str | None:
        """The ID of the session that came to its end on this screen, once."""
        ended, self._ended = self._ended, None
        return ended

    # What is watched

    @work(thread=True, exclusive=True, group="running", exit_on_error=False, name="Looking for a running session")
    def look_for_running(self) -> None:
        from sessions.disk.session_folder import SessionError

        app = self.workbench
        try:
            if app.watch_first is not None:
                folder = app.store.folder(app.watch_first)
                self.call_later(self.watch_session, folder, app.replay_first, app.faster_first)
                return
            if live := app.store.live():
                self.call_later(self.watch_session, app.store.folder(live[0]))
            if len(live) > 1 and len(app.store.at_work()) > 1:
                self.call_later(self.action_all)
        except SessionError as error:
            app.call_from_thread(app.notify, str(error), severity="error", timeout=12, markup=False)
        finally:
            app.watch_first = None

    async def watch_session(self, folder: SessionFolder, replay: bool = False, faster: int = 0) -> None:
        """Follow this session from now on (or replay it, so many steps faster), instead of what was watched before."""
        from tui.read.session_watch import SessionWatch

        async with self._switching:
            if self.watched is not None:
                self.watched.close()
            self._over, self._offered, self._unscored = False, 0, False
            live = await self._live_view()
            live.show_outcome(None)
            self.watched = SessionWatch(folder, self._deliver, replay)
            self.watched.change_speed(faster)
            self.switch.current = "live"
            self.call_after_refresh(self.watched.start)  # its views come to widgets that know their size
            live.text.focus()
            self.refresh_bindings()

    async def _live_view(self) -> LiveView:
        from tui.widgets.live_view import LiveView

        if self.live is None:
            self.live = LiveView(id="live")
            await self.switch.add_content(self.live)
        return self.live

    @on(FlightGrid.Chosen)
    def look_into(self, event: FlightGrid.Chosen) -> None:
        event.stop()
        if self.watched is not None:
            self.watched.look_into(event.slot)

    def _deliver(self, watch: SessionWatch, what: View | str) -> None:
        self.post_message(self.Arrived(watch, what))

    def _tick(self) -> None:
        watch, live = self.watched, self.live
        if watch is None or live is None or not self.is_current:
            return
        if self.workbench.link.is_free() and self._share.is_free():
            watch.want()
            live.show_instruments(alone=True)

    @on(Arrived)
    def show_arrived(self, event: Arrived) -> None:
        watch, live = event.watch, self.live
        if watch is not self.watched or live is None:
            return
        if isinstance(event.what, str):
            self.workbench.notify(event.what, severity="error", timeout=15, markup=False)
            if live.shown is None or live.shown.live.session != watch.folder.id:
                self.action_new()
            return
        self.workbench.ask_after_display()
        live.show_view(event.what, self._mode(watch))
        if event.what.over != self._over:
            self._over = event.what.over
            self.refresh_bindings()
            if self._over:
                self._ended = watch.folder.id
                self._settle(watch)

    @work(thread=True, exclusive=True, group="settle", exit_on_error=False, name="Comparing")
    def _settle(self, watch: SessionWatch) -> None:
        from sessions.close.session_end import recover
        from sessions.disk.session_folder import SessionError
        from sessions.verdict.comparison import ComparisonError, compare

        try:
            recover(watch.folder)
            comparison = compare(self.workbench.store, [(watch.folder.id, None)])
        except (SessionError, ComparisonError):
            return  # the view says already what is wrong with it
        self.post_message(self.Settled(watch, comparison))

    @on(Settled)
    def show_settled(self, event: Settled) -> None:
        if event.watch is self.watched and self.live is not None:
            self.live.show_outcome(event.comparison)
            self._offered = event.comparison.offers.get(event.watch.folder.id, 0)
            self._unscored = event.watch.folder.id in event.comparison.unscored
            self.refresh_bindings()

    def _shown(self) -> View | None:
        return self.live.shown if self.live is not None else None

    @staticmethod
    def _mode(watch: SessionWatch) -> str:
        if not watch.replay:
            return ""
        return "replay paused" if watch.paused else f"replay ×{watch.speed:g}"

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        watch = self.watched
        follows = watch is not None and not watch.replay and not self._over
        match action:
            case "start" | "models":
                return watch is None
            case "create":
                return watch is None and bool(self.form.environment_wanted())
            case "stop" | "skip" | "detach" | "all":
                return follows
            case "pause" | "speed":
                return watch is not None and watch.replay and not self._over
            case "new":
                return watch is not None and (watch.replay or self._over)
            case "more":
                return watch is not None and self._over and self._offered > 0
            case "fidelity":
                return watch is not None and self._over and self._unscored
            case "open":
                return watch is not None and self._over
        return True

    def action_leave_field(self) -> None:
        if self.watched is None:
            self.form.focus_methods()

    def action_start(self) -> None:
        self.form.start()

    async def action_create(self) -> None:
        if environment := self.form.environment_wanted():
            await self.workbench.create_environment(environment)

    @work(exclusive=True, group="models", exit_on_error=False, name="Choosing a model")
    async def action_models(self) -> None:
        from tui.read.models_here import models_here
        from tui.screens.choose_model import ChooseModel

        app, form = self.workbench, self.form
        if (checked := form.checked) is None:
            self._models_wanted = True  # the form's fields are still to come
            return
        plan = checked.plan
        device = plan.device_name or plan.device if plan is not None else "the device"
        chooser = ChooseModel(form.model.value, checked.free_bytes, device)
        answer = app.push_screen(chooser, wait_for_dismiss=True)
        dtype = plan.dtype if plan is not None else "bfloat16"
        chooser.show_models(await asyncio.to_thread(models_here, app.home, app.store, dtype))
        if (spec := await answer) is not None:
            form.model.write(spec)
            form.focus_methods()

    @on(RunForm.Validated)
    def go_on_with_models(self, event: RunForm.Validated) -> None:
        event.stop()
        if self._models_wanted and self.watched is None:
            self.action_models()
        self._models_wanted = False

    @on(TextField.ListWanted)
    def choose_model(self, event: TextField.ListWanted) -> None:
        event.stop()
        self.action_models()

    @on(RowList.Highlighted)
    def offer_what_the_row_needs(self) -> None:
        self.refresh_bindings()

    @on(RunForm.Started)
    async def follow_started(self, event: RunForm.Started) -> None:
        await self.watch_session(event.folder)

    @work(exit_on_error=False, name="Stopping")
    async def action_stop(self) -> None:
        from tui.screens.ask import Confirm

        watch = self.watched
        if watch is None:
            return
        if await self.app.push_screen_wait(
            Confirm("Stop the session? What was measured is saved, and can be resumed.")
        ):
            self._ask(watch, "stop", "Stopping: the session finishes its request and saves what was measured.")

    def action_skip(self) -> None:
        watch, shown = self.watched, self._shown()
        if watch is None or shown is None or shown.live.method is None or shown.live.block is None:
            self.workbench.notify("No method is running: there is nothing to skip.", markup=False)
            return
        method, block = shown.live.method, shown.live.block
        self._ask(watch, f"skip-{method}-{block}", f"Skipping block {block + 1} of {method}.")

    def _ask(self, watch: SessionWatch, action: str, said: str) -> None:
        from sessions.disk.session_folder import SessionError

        try:
            watch.folder.ask(action)
        except SessionError as error:
            self.workbench.notify(str(error), severity="error", markup=False)
        else:
            self.workbench.notify(said, markup=False)

    def action_all(self) -> None:
        from tui.screens.all_running import AllRunningScreen

        self.app.push_screen(AllRunningScreen())

    def action_detach(self) -> None:
        self.workbench.leave()

    def action_open(self) -> None:
        if self.watched is not None:
            self.workbench.open_session(self.watched.folder.id)

    @work(exit_on_error=False, name="Adding rounds")
    async def action_more(self) -> None:
        if self.watched is not None and self._offered:
            await add_rounds(self.workbench, self.watched.folder.id, self._offered)

    @work(exit_on_error=False, name="Adding fidelity")
    async def action_fidelity(self) -> None:
        if self.watched is not None and self._unscored:
            await add_fidelity(self.workbench, self.watched.folder.id)

    def action_new(self) -> None:
        """Back to the form."""
        if self.watched is not None:
            self.watched.close()
        self.watched = None
        self.switch.current = "form"
        self.form.focus_methods()
        self.refresh_bindings()

    def action_pause(self) -> None:
        if (watch := self.watched) is not None:
            watch.paused = not watch.paused
            self._show_mode(watch)

    def action_speed(self, steps: int) -> None:
        if (watch := self.watched) is not None:
            watch.change_speed(steps)
            self._show_mode(watch)

    def _show_mode(self, watch: SessionWatch) -> None:
        if self.live is not None and (shown := self._shown()) is not None:
            self.live.show_view(shown, self._mode(watch))
