"""The workbench: the app that holds the screens. It is a view of journals and the store, nothing more."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import ScreenStackError, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui.link import AskingDriver, Link, PacedDriver
from tui.print.output_encoding import draw_with_what_stderr_has
from tui.screens.palette import Palette
from tui.screens.run import RunScreen
from tui.settings import Settings, load_settings, save_settings
from tui.shown_cells import ShownCells
from tui.widgets.theme import DARK, THEMES, THEMES_FEW, has_few_colours
from tui.widgets.workbench_app import WorkbenchApp
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import RenderableType
    from textual import messages
    from textual.driver import Driver
    from textual.notifications import SeverityLevel
    from textual.theme import Theme

    from sessions.disk.session_folder import SessionFolder
    from sessions.disk.store import Shared, Store

FAILURE_LOG = "workbench-failure.log"
OF_A_TERMINAL = PacedDriver if sys.platform == "linux" else None  # the driver; None: Textual's


def _sessions() -> Screen[Any]:
    from tui.screens.sessions import SessionsScreen

    return SessionsScreen()


def _compare() -> Screen[Any]:
    from tui.screens.compare import CompareScreen

    return CompareScreen()


def _methods() -> Screen[Any]:
    from tui.screens.methods import MethodsScreen

    return MethodsScreen()


class Workbench(WorkbenchApp):
    """Four screens, each in a mode of its own, so that each keeps its state while another is in front."""

    TITLE = "kasoku"
    AUTO_FOCUS = ""
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "run": RunScreen,
        "sessions": _sessions,
        "compare": _compare,
        "methods": _methods,
    }
    DEFAULT_MODE = "run"
    CSS_PATH = Path(__file__).with_name("app.tcss")

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "show('run')", "run", id="screen.run", tooltip="Plan a run, or watch the running one"),
        Binding("2", "show('sessions')", "sessions", id="screen.sessions", tooltip="All saved sessions"),
        Binding("3", "show('compare')", "compare", id="screen.compare", tooltip="Methods and sessions side by side"),
        Binding("4", "show('methods')", "methods", id="screen.methods", tooltip="The catalogue and its environments"),
        Binding("question_mark,f1", "help", "help", id="app.help", tooltip="Show the keys", key_display="?"),
        Binding("q,ctrl+q", "quit", "quit", id="app.quit", tooltip="Quit; a running session continues", show=False),
    ]

    def __init__(
        self,
        home: Path,
        config: Path,
        *,
        settings: Settings | None = None,
        problems: tuple[str, ...] = (),
        watch: str | None = None,
        replay: bool = False,
        faster: int = 0,
        driver: type[Driver] | None = OF_A_TERMINAL,
        shared: Shared | None = None,
        few_colours: bool = False,
    ) -> None:
        """`watch` is the id of a session to follow from the start (or `replay`, so many steps faster), else the one
        that runs, if any; `shared` is a team's store, whose sessions are shown beside those of the home.
        `few_colours`: the terminal has 16."""
        self.link = Link()
        self.shown_cells = ShownCells()
        super().__init__(driver_class=driver)
        self.home = home
        self.config = config
        self.settings = settings or Settings()
        self.problems = problems
        self.watch_first = watch
        self.replay_first = replay
        self.faster_first = faster
        self._shared = shared
        self.farewell = ""
        self._ask_after_display = False
        for theme in THEMES_FEW if few_colours else THEMES:
            self.register_theme(theme)
        if "TEXTUAL_THEME" not in os.environ:
            self.theme = DARK.name
        self._kept_theme = self.theme

    @cached_property
    def store(self) -> Store:
        """All saved sessions; imported when first asked for, which is after the first paint."""
        from sessions.disk.store import Store

        return Store(self.home / "sessions", self._shared)

    def on_mount(self) -> None:
        if isinstance(self._driver, PacedDriver):
            self._driver.end_with_the_terminal()
        problems = list(self.problems)
        if self.settings.theme is not None:
            if self.settings.theme in self.available_themes:
                self.theme = self.settings.theme
            else:
                names = ", ".join(sorted(self.available_themes))
                problems.append(f"Unknown theme {self.settings.theme!r}: choose from {names}.")
        if self.settings.keymap:
            self.set_keymap(dict(self.settings.keymap))
        for problem in problems:
            self.notify(problem, severity="warning", timeout=12, markup=False)
        self._kept_theme = self.theme
        self.theme_changed_signal.subscribe(self, self._keep_theme)

    def _keep_theme(self, theme: Theme) -> None:
        """Save a theme chosen while the app runs for the next time."""
        if theme.name == self._kept_theme:
            return
        self._kept_theme = theme.name
        if problem := save_settings(self.config, "The theme was", {"theme": theme.name}):
            self.notify(problem, severity="warning", timeout=12, markup=False)

    # Between the screens

    def action_show(self, mode: str) -> None:
        """Bring one of the four screens to the front, closing what was opened on top of it.

        Compare comes with the session that has just ended on the Run screen, the first time that it is asked for then.
        """
        if mode == "compare":
            for screen in self._screen_stacks.get("run", []):
                if isinstance(screen, RunScreen) and (ended := screen.take_ended()) is not None:
                    self.call_later(self.compare_sessions, [ended])
                    return
        if self.current_mode == mode:
            while len(self.screen_stack) > 1:
                self.pop_screen()
        else:
            self.switch_mode(mode)

    async def watch_session(self, folder: SessionFolder, *, replay: bool = False) -> None:
        await self.switch_mode("run")
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        screen = self.screen
        assert isinstance(screen, RunScreen)  # noqa: S101 - the mode's only base screen
        await screen.watch_session(folder, replay)

    async def compare_sessions(self, sessions: list[str], method: str | None = None) -> None:
        from tui.screens.compare import CompareScreen

        await self.switch_mode("compare")
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        screen = self.screen
        assert isinstance(screen, CompareScreen)  # noqa: S101 - the mode's only base screen
        screen.pick(sessions, method)

    async def create_environment(self, name: str) -> None:
        from tui.screens.methods import MethodsScreen

        await self.switch_mode("methods")
        while len(self.screen_stack) > 1:
            await self.pop_screen()
        screen = self.screen
        assert isinstance(screen, MethodsScreen)  # noqa: S101 - the mode's only base screen
        screen.create(name)

    def open_session(self, session: str) -> None:
        from tui.screens.session import SessionScreen

        self.push_screen(SessionScreen(session))

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_command_palette(self) -> None:
        if self.use_command_palette and not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        yield from super().get_system_commands(screen)
        for mode, words in (
            ("run", "Plan a run, or watch the running one"),
            ("sessions", "All saved sessions"),
            ("compare", "Methods and sessions side by side"),
            ("methods", "The catalogue, the environments and the doctor"),
        ):
            yield SystemCommand(mode.capitalize(), words, lambda mode=mode: self.action_show(mode))

    # Leaving

    async def action_quit(self) -> None:
        """Quit the app. A running session is left alone."""
        self.leave()

    def leave(self) -> None:
        for screen in self._screen_stacks.get("run", []):
            if isinstance(screen, RunScreen) and (session := screen.running) is not None:
                self.farewell = f"Session {session} continues: `kasoku` or `kasoku attach` shows it again."
        self.exit()

    # The link to the terminal

    def ask_after_display(self) -> None:
        self._ask_after_display = True

    def on_resize(self) -> None:
        """Also each time when the app comes back to its terminal: all of it is written again."""
        self.shown_cells.forget()
        with contextlib.suppress(ScreenStackError):
            self.screen.refresh()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """As Textual's, which writes whole what it has rendered again."""
        if isinstance(renderable, LayoutUpdate | ChopsUpdate):
            renderable = cast("RenderableType", self.shown_cells.only_changes(renderable))
        elif renderable is not None:
            self.shown_cells.forget()
        super()._display(screen, renderable)

    def post_display_hook(self) -> None:
        if self._ask_after_display and isinstance(self._driver, AskingDriver):
            self._ask_after_display = False
            self._driver.ask()

    def _on_terminal_supports_synchronized_output(self, message: messages.TerminalSupportsSynchronizedOutput) -> None:
        super()._on_terminal_supports_synchronized_output(message)
        self.link.answered()

    # What Textual does not see to

    def clear_selection(self) -> None:
        """As Textual's, but also before the first screen is on its stack.

        From Python 3.12 on a screen's inputs are mounted before that (Textualize/textual#6444).
        """
        with contextlib.suppress(ScreenStackError):
            super().clear_selection()

    # Failures

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show a message, which may contain untrusted text: neither markup nor control characters take effect."""
        del markup
        super().notify(plain(message), title=plain(title), severity=severity, timeout=timeout, markup=False)

    def report_failure(self, what: str, error: BaseException | None) -> None:
        log = self._write_failure(error) if error is not None else None
        where = f" Details are in {log}." if log else ""
        reason = f"{type(error).__name__}: {error}" if error is not None else "no reason given"
        self.notify(f"{what} failed ({reason}).{where}", severity="error", timeout=15, markup=False)

    def _write_failure(self, error: BaseException) -> Path | None:
        path = self.home / FAILURE_LOG
        try:
            from methods.base.home import HomeError, private_folder, write_atomically

            private_folder(self.home)
            text = "".join(traceback.format_exception(error))
            write_atomically(path, f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}".encode(errors="replace"))
        except (HomeError, OSError):
            return None
        return path

    def _fatal_error(self) -> None:
        """An uncaught exception: one sentence after the app, the traceback in a file."""
        error = self._exception
        log = self._write_failure(error) if error is not None else None
        kind = f" ({type(error).__name__})" if error is not None else ""
        where = f" Please report it with {log}." if log else ""
        self.farewell = f"The workbench crashed{kind}; sessions are not affected.{where}"
        self._close_messages_no_wait()


def run_app(
    home: Path,
    config: Path,
    *,
    watch: str | None = None,
    replay: bool = False,
    faster: int = 0,
    driver: type[Driver] | None = OF_A_TERMINAL,
    shared: Shared | None = None,
) -> int:
    """Run the workbench in this terminal, or where `driver` shows it; its exit code: 0, or 1 after a crash."""
    settings, problems = load_settings(config)
    draw_with_what_stderr_has()
    app = Workbench(
        home,
        config,
        settings=settings,
        problems=problems,
        watch=watch,
        replay=replay,
        faster=faster,
        driver=driver,
        shared=shared,
        few_colours=driver is OF_A_TERMINAL and has_few_colours(),
    )
    app.run(mouse=settings.mouse)
    if app.farewell:
        print(app.farewell, file=sys.stderr if app.return_code else sys.stdout)
    return app.return_code or 0
