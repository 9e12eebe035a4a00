"""Methods: the catalogue, the environments that methods run in, and the doctor's findings on this machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.message import Message
from textual.widgets import TabbedContent, TabPane

from methods.base.home import HomeError
from tui.read.method_facts import method_facts
from tui.screens.ask import AskText, Confirm
from tui.screens.method import MethodScreen
from tui.screens.workbench_screen import WorkbenchScreen
from tui.widgets.facts import Facts
from tui.widgets.key_bar import KeyBar
from tui.widgets.live_text import LiveText
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.widgets.stepped_tabs import SteppedTabs
from tui.words import figures
from tui.words.fact import Fact
from tui.words.terminal_text import one_line, plain

if TYPE_CHECKING:
    from methods.base.progress import Progress
    from methods.catalogue.availability import Choice
    from methods.environments.environments import EnvironmentRow
    from sessions.device.doctor import Finding

WIDE = 120
OUTPUT_LINES = 2000
STATE_STYLES = {"ready": "good", "configured": "good", "own": "good", "absent": "dim", "outdated": "warning"}
LEVEL_STYLES = {"ok": "good", "note": "dim", "warning": "warning", "problem": "bad"}
LEVEL_MARKS = {"ok": "✓", "note": "·", "warning": "!", "problem": "✗"}


class _CancelledError(Exception):
    """Raised out of a progress report: it stops the creation of an environment cleanly."""


class MethodsScreen(WorkbenchScreen):
    """Three tabs; an environment is created in a thread, its output shown as it comes; escape stops it."""

    CSS_PATH = "methods.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "tab(1)", "next tab", id="methods.next", tooltip="The next tab", key_display="→"),
        Binding("left", "tab(-1)", "tab", id="methods.previous", tooltip="The previous tab", show=False),
        Binding("w", "mine", "make it mine", id="methods.mine", tooltip="Write a copy of your own and edit it"),
        Binding("c", "create", "create", id="environments.create", tooltip="Create this environment with uv"),
        Binding(
            "u", "use", "use a Python", id="environments.use", tooltip="Use a Python of yours for this environment"
        ),
        Binding("x,delete", "remove", "remove", id="environments.remove", tooltip="Remove this environment"),
        Binding("escape", "cancel", "cancel", id="environments.cancel", tooltip="Stop creating the environment"),
        Binding("f5", "reload", "reload", id="methods.reload", tooltip="Reload", show=False),
    ]

    class Catalogued(Message):
        """The catalogue and the environments were read."""

        def __init__(
            self, choices: Sequence[Choice], environments: Sequence[EnvironmentRow], problems: Sequence[str]
        ) -> None:
            super().__init__()
            self.choices, self.environments, self.problems = choices, environments, problems

    class Examined(Message):
        """The doctor's findings are there."""

        def __init__(self, findings: Sequence[Finding]) -> None:
            super().__init__()
            self.findings = findings

    class Said(Message):
        """The creation of an environment said something; `ended` where that was its last word."""

        def __init__(self, line: str, ended: bool = False) -> None:
            super().__init__()
            self.line, self.ended = line, ended

    def __init__(self) -> None:
        super().__init__()
        self.creating: str | None = None
        self._cancel = threading.Event()
        self._output: list[str] = []

    def compose(self) -> ComposeResult:
        with SteppedTabs(initial="methods"):
            with TabPane("methods", id="methods"), Container(classes="list-pane"):
                columns: list[ListColumn[Choice]] = [
                    ListColumn(
                        "method", 22, lambda choice: choice.method.name, grow=1, sort=lambda choice: choice.method.name
                    ),
                    ListColumn(
                        "group", 12, lambda choice: (plain(choice.method.group), "dim"), need=90, sort=_group_of
                    ),
                    ListColumn("here", 12, _here_cell),
                    ListColumn("difference, or why unavailable", 16, _differs_cell, grow=4),
                ]
                yield RowList(
                    columns, lambda choice: choice.method.name, empty="Reading the catalogue…", id="method-list"
                )
                with VerticalScroll(classes="detail"):
                    yield Facts(label_width=14, id="method-facts")
            with TabPane("environments", id="environments"), Container():
                rows: list[ListColumn[EnvironmentRow]] = [
                    ListColumn("environment", 18, lambda row: one_line(row.name, 40), sort=lambda row: row.name),
                    ListColumn("state", 11, lambda row: (row.state, STATE_STYLES.get(row.state, "bad"))),
                    ListColumn("Python", 8, lambda row: row.python_version or figures.UNKNOWN, need=60),
                    ListColumn("size", 8, lambda row: figures.size(row.size_bytes), right=True, need=60),
                    ListColumn("for", 16, lambda row: (one_line(row.purpose, 200), "dim"), grow=1),
                ]
                yield RowList(rows, _environment_key, empty="Reading the environments…", id="environment-list")
                with VerticalScroll(id="environment-facts", can_focus=False):
                    yield Facts(id="environment-detail")
                yield LiveText(id="output")
            with TabPane("doctor", id="doctor"), VerticalScroll(id="doctor-scroll"):
                yield Facts([Fact("", "Checking the machine…", "dim")], id="findings")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#method-list").focus()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width >= WIDE, "wide")

    def on_screen_resume(self) -> None:
        self.load()

    # What is shown

    @work(thread=True, exclusive=True, group="catalogue", exit_on_error=False, name="Reading the catalogue")
    def load(self) -> None:
        from methods.catalogue.availability import choices
        from methods.catalogue.catalogue import load_catalogue
        from methods.environments.environments import listed
        from probes.gpu.nvml import Nvml
        from sessions.device.devices import choose

        app = self.workbench
        catalogue = load_catalogue(app.config)
        device = choose(None, Nvml())
        self.post_message(
            self.Catalogued(
                choices(catalogue, device.facts, app.home, app.config), listed(app.home, app.config), catalogue.problems
            )
        )

    @on(Catalogued)
    def show_catalogued(self, event: Catalogued) -> None:
        self.query_one("#method-list", RowList).show_rows(event.choices)
        self.query_one("#environment-list", RowList).show_rows(event.environments, "No environments are described.")
        for problem in event.problems:
            self.workbench.notify(plain(problem), severity="warning", markup=False, timeout=12)

    @work(thread=True, exclusive=True, group="doctor", exit_on_error=False, name="The doctor")
    def examine(self) -> None:
        from sessions.device.doctor import findings

        self.post_message(self.Examined(findings(self.workbench.home, self.workbench.config)))

    @on(Examined)
    def show_findings(self, event: Examined) -> None:
        facts: list[Fact] = []
        for finding in event.findings:
            mark = f"{LEVEL_MARKS[finding.level]} {finding.level}"
            facts.append(Fact(mark, finding.text, LEVEL_STYLES[finding.level]))
            if finding.remedy:
                facts.append(Fact(" ", finding.remedy, "dim"))
        self.query_one("#findings", Facts).show_facts(facts or [Fact("", "No problems found.", "good")])

    @on(RowList.Highlighted, "#method-list")
    def describe_method(self, event: RowList.Highlighted) -> None:
        choice = event.row
        self.query_one("#method-facts", Facts).show_facts(method_facts(choice) if choice is not None else [])

    @on(RowList.Chosen, "#method-list")
    def open_method(self, event: RowList.Chosen) -> None:
        self.app.push_screen(MethodScreen(event.row.method.name))

    async def action_mine(self) -> None:
        if (choice := self.query_one("#method-list", RowList).row) is not None:
            page = MethodScreen(choice.method.name)
            await self.app.push_screen(page)
            page.action_mine()

    @on(RowList.Highlighted, "#environment-list")
    def describe_environment(self, event: RowList.Highlighted) -> None:
        row = event.row
        facts: list[Fact] = []
        if row is not None:
            facts = [Fact(row.name, row.purpose or "(not described)")]
            if row.reason:
                facts.append(Fact(row.state, row.reason, STATE_STYLES.get(row.state, "bad")))
            if row.python is not None:
                facts.append(Fact("Python", str(row.python)))
            if row.versions:
                facts.append(Fact("versions", ", ".join(f"{name} {version}" for name, version in row.versions.items())))
        self.query_one("#environment-detail", Facts).show_facts(facts)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        del parameters
        if not self.is_mounted:
            return True
        tab = self.query_one(SteppedTabs).active
        match action:
            case "create" | "use" | "remove":
                return tab == "environments" and self.creating is None
            case "mine":
                return tab == "methods"
            case "cancel":
                return self.creating is not None
        return True

    def action_tab(self, step: int) -> None:
        self.query_one(SteppedTabs).step(step)

    @on(TabbedContent.TabActivated)
    def focus_tab(self) -> None:
        pane = self.query_one(SteppedTabs).active  # which may be another by now
        self.query_one(
            {"methods": "#method-list", "environments": "#environment-list"}.get(pane, "#doctor-scroll")
        ).focus()
        if pane == "doctor":
            self.examine()
        self.refresh_bindings()

    def action_reload(self) -> None:
        self.load()
        if self.query_one(SteppedTabs).active == "doctor":
            self.examine()

    # Environments

    def _environment(self) -> EnvironmentRow | None:
        return self.query_one("#environment-list", RowList).row

    def action_create(self) -> None:
        if (row := self._environment()) is not None:
            self.create(row.name)

    def create(self, name: str) -> None:
        """Create this environment, unless one is being created, and show how it goes."""
        self.query_one(SteppedTabs).active = "environments"
        if self.creating is not None:
            self.workbench.notify(f"The environment {self.creating} is being created: wait for it, or press escape.")
            return
        self.creating = name
        self._cancel.clear()
        self._output = []
        self.refresh_bindings()
        self._create(name)

    @work(thread=True, group="environment", exit_on_error=False, name="Creating the environment")
    def _create(self, name: str) -> None:
        from methods.environments.environments import CreationError, EnvironmentProblemError, create

        def report(progress: Progress) -> None:
            if self._cancel.is_set():
                raise _CancelledError
            self.post_message(self.Said(_progress_line(progress)))

        app = self.workbench
        last = "Stopped; nothing half-created is left."
        try:
            made = create(name, app.home, app.config, report=report)
            last = f"{name} is ready: {made.python}"
        except _CancelledError:
            pass
        except (EnvironmentProblemError, CreationError, HomeError) as error:
            last = str(error)
        finally:
            self.post_message(self.Said(last, ended=True))

    @on(Said)
    def show_said(self, event: Said) -> None:
        if not self._output or self._output[-1] != event.line:
            self._output.append(event.line)
        del self._output[:-OUTPUT_LINES]
        self.add_class("told")
        self.query_one("#output", LiveText).show_text("\n".join(self._output))
        if event.ended:
            self.creating = None
            self.refresh_bindings()
            self.load()

    def action_cancel(self) -> None:
        self._cancel.set()
        self.post_message(self.Said("Stopping…"))

    @work(exit_on_error=False, name="Setting the Python")
    async def action_use(self) -> None:
        row = self._environment()
        if row is None:
            return
        python = await self.app.push_screen_wait(AskText(f"Path of a Python that has what {row.name} needs"))
        if python and python.strip():
            self._use(row.name, python.strip())

    @work(thread=True, group="environment", exit_on_error=False, name="Checking the Python")
    def _use(self, name: str, python: str) -> None:
        from methods.environments.environments import EnvironmentProblemError, use

        app = self.workbench
        self.post_message(self.Said(f"Checking {python}…"))
        try:
            chosen = use(name, Path(python), app.home, app.config)
            said = f"{name} now uses {chosen.python}."
        except (EnvironmentProblemError, HomeError) as error:
            said = str(error)
        self.post_message(self.Said(said, ended=True))

    @work(exit_on_error=False, name="Removing the environment")
    async def action_remove(self) -> None:
        row = self._environment()
        if row is not None and await self.app.push_screen_wait(Confirm(f"Remove the environment {row.name}?")):
            self._remove(row.name)

    @work(thread=True, group="environment", exit_on_error=False, name="Removing the environment")
    def _remove(self, name: str) -> None:
        from methods.environments.environments import EnvironmentProblemError, remove

        app = self.workbench
        try:
            gone = remove(name, app.home, app.config)
            said = "\n".join(f"removed {path}" for path in gone)
        except (EnvironmentProblemError, HomeError) as error:
            said = str(error)
        except OSError as error:
            said = f"{name} cannot be removed ({error.strerror})."
        self.post_message(self.Said(said, ended=True))


def _progress_line(progress: Progress) -> str:
    if progress.done is None:
        return f"{progress.phase}: {progress.detail}" if progress.detail else progress.phase
    done = figures.of_total(progress.done, progress.total) if progress.unit == "bytes" else f"{progress.done}"
    if progress.unit != "bytes":
        done += f"/{progress.total} {progress.unit}" if progress.total is not None else f" {progress.unit}"
    return f"{progress.phase}: {progress.detail} {done}"


def _environment_key(row: EnvironmentRow) -> str:
    return f"{row.name}:{row.folder}"


def _group_of(choice: Choice) -> str:
    return choice.method.group


def _here_cell(choice: Choice) -> Cell:
    return ("unavailable", "warning") if choice.unavailable is not None else ("available", "good")


def _differs_cell(choice: Choice) -> Cell:
    method = choice.method
    if choice.unavailable is not None:
        return (one_line(choice.unavailable.reason), "dim")
    return one_line(f"{method.reference}: {method.differs}" if method.reference else method.summary)
