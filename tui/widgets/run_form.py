"""The form for planning a run: validated as it is filled in, with an estimate of the duration."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.getters import query_one
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Button, Input, Select, Static
from textual.worker import get_current_worker

from sessions.disk.option_table import table
from sessions.disk.options import RunOptions
from sessions.planning.presets import PRESETS
from tui.read.form_rows import FormRow, form_rows, needed_environment
from tui.read.form_words import about_row, folded_words, in_brief, in_the_forms_words, said_of_plan, what_it_takes
from tui.widgets.facts import Facts
from tui.widgets.field import ChoiceField, TextField
from tui.widgets.here_lines import HereLines
from tui.widgets.option_fields import YES, option_fields, said, show_defaults
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.widgets.theme import method_style, titled
from tui.widgets.workbench_app import WorkbenchApp
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice
    from probes.gpu.nvml import Nvml
    from sessions.disk.session_folder import SessionFolder
    from sessions.planning.wanted import Wanted
    from tui.read.form_check import Checked

CHECK_AFTER_S = 0.25
WIDE, TALL = 110, 28
NONE_TICKED = "No method ticked: tick at least one with space."
OPTIONS = table(RunOptions)


class RunForm(Widget):
    """Empty fields take the preset's values, shown as placeholders."""

    DEFAULT_CSS = """
    RunForm {
        layout: vertical;
        height: 1fr;
        #here { height: auto; }
        #first { height: auto; padding: 0 1; display: none; border-title-color: $accent; }
        &.empty #first { display: block; }
        &.empty.low #here { display: none; }
        #halves { layout: vertical; height: 1fr; }
        &.wide #halves { layout: horizontal; }
        #choose { height: 1fr; min-height: 5; }
        &.wide #choose { width: 1fr; height: 1fr; }
        #about { height: 3; padding: 0 1; color: $text-muted; border-top: solid $border; }
        #about { border-title-style: bold; border-title-color: $text-muted; }
        &.wide #about { height: auto; max-height: 9; }
        #fields { height: 8; layout: grid; grid-size: 2; grid-gutter: 0 2; grid-rows: 1; padding: 0 1; }
        &.wide #fields { width: 56; height: 1fr; layout: vertical; }
        &.low.narrow #fields { height: 5; }
        &.low.narrow #about { height: 2; }
        #verdict { height: auto; max-height: 7; layout: horizontal; padding: 0 1; }
        #words { width: 1fr; height: auto; }
        #said { width: 1fr; height: auto; }
        #said.bad { color: $text-error; }
        #takes { width: 1fr; height: auto; padding: 0; }
        #start { width: 14; margin-left: 2; }
        &.low.narrow #start { display: none; }
    }
    """

    methods = query_one("#form-methods", RowList)
    said = query_one("#said", Static)
    about = query_one("#about", Static)

    class Started(Message):
        """A session was begun."""

        def __init__(self, folder: SessionFolder) -> None:
            super().__init__()
            self.folder = folder

    class Validated(Message):
        """The form as it stands was checked."""

        def __init__(self, checked: Checked) -> None:
            super().__init__()
            self.checked = checked

    class Seen(Message):
        """The machine was looked at."""

        def __init__(self, words: tuple[str, ...], last: str) -> None:
            super().__init__()
            self.words, self.last = words, last

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.checked: Checked | None = None
        self._timer: Timer | None = None
        self._nvml: Nvml | None = None
        self._nvml_lock = threading.Lock()
        self._starting = False
        self._opened: set[str] = set()  # folds whose methods are listed
        self._places: dict[str, int] = {}  # of the planned methods: what decides on their colours

    @property
    def workbench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    def compose(self) -> ComposeResult:
        yield titled(HereLines(id="here"), "this machine")
        yield titled(Static(id="first", markup=False), "nothing has been measured here yet")
        with Widget(id="halves"):
            with titled(Vertical(id="choose"), "methods"):
                columns: list[ListColumn[FormRow]] = [
                    ListColumn("method", 24, self._name_cell, grow=1),
                    ListColumn("group", 12, lambda row: (plain(row.group), "dim"), need=90),
                    ListColumn("what it is", 20, _summary_cell, grow=9),
                ]
                yield RowList(
                    columns,
                    lambda row: row.key,
                    markable=True,
                    can_be_ticked=lambda row: row.can_be_ticked,
                    empty="Reading the catalogue…",
                    id="form-methods",
                )
                yield Static(id="about", markup=False)
            yield titled(VerticalScroll(id="fields", can_focus=False), "plan")
        with titled(Widget(id="verdict"), "it takes"):
            with Vertical(id="words"):
                yield Static("", id="said", markup=False)
                yield Facts(label_width=8, id="takes")
            yield Button("Start (r)", id="start", variant="primary", compact=True, disabled=True)

    def on_mount(self) -> None:
        self._lay_out(*self.app.size)
        self.focus_methods()
        self.call_after_refresh(self._mount_fields)  # they, and the imports of a check, would delay the first paint

    async def _mount_fields(self) -> None:
        presets = [(name, name) for name in PRESETS]
        devices = [("best available", ""), ("CPU", "cpu")]
        fields = option_fields(OPTIONS, {"preset": presets, "device": devices}, listed=("model",))
        await self.query_one("#fields").mount_all(fields)
        self._show_preset()
        self.call_after_refresh(self.check_now)
        self.call_after_refresh(self._look_around)

    def _lay_out(self, width: int, height: int) -> None:
        self.set_class(width >= WIDE, "wide")
        self.set_class(width < WIDE, "narrow")
        self.set_class(height < TALL, "low")
        self.query_one("#here", HereLines).brief = height < TALL

    def on_resize(self) -> None:
        self._lay_out(*self.size)

    def focus_methods(self) -> None:
        """Start where nothing types."""
        self.methods.focus()

    # What is asked for

    def _choice(self, name: str) -> str:
        return self.query_one(f"#field-{name}", ChoiceField).value

    def wanted(self) -> Wanted:
        """What the form asks for. Raises ValueError with a sentence where a number is none."""
        from sessions.planning.wanted import Wanted

        marked = tuple(self.methods.marked)
        methods = () if set(marked) == self._preset_methods() else marked
        return Wanted(said(self, OPTIONS), methods=methods)

    @property
    def _choices(self) -> tuple[Choice, ...]:
        return self.checked.choices if self.checked is not None else ()

    def _preset_methods(self) -> set[str]:
        preset = self._choice("preset")
        return {choice.method.name for choice in self._choices if preset in choice.method.presets}

    def _show_preset(self) -> None:
        show_defaults(self, OPTIONS, PRESETS[self._choice("preset")])

    # Checking

    @on(Input.Changed)
    @on(Select.Changed)
    @on(RowList.Marked)
    def check_soon(self, event: Message) -> None:
        event.stop()
        if isinstance(event, Select.Changed) and event.select.id == "preset" and self.checked is not None:
            self._show_preset()
            self._mark_preset()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(CHECK_AFTER_S, self.check_now)

    def check_now(self) -> None:
        """Check the form as it stands, in a thread; a newer check takes the place of an older one."""
        try:
            wanted = self.wanted()
        except ValueError as error:
            self._say(str(error), bad=True)
            return
        if self._none_ticked():
            return
        self._check(wanted, self._choice("device") or None)

    def _none_ticked(self) -> bool:
        """Whether every tick was taken away; said here, because to a plan no methods mean the preset's."""
        if self.checked is None or self.methods.marked:
            return False
        self._say(NONE_TICKED, bad=True)
        return True

    @work(thread=True, exclusive=True, group="check", exit_on_error=False, name="Checking the plan")
    def _check(self, wanted: Wanted, device: str | None) -> None:
        from tui.read.form_check import check_form

        worker = get_current_worker()
        app = self.workbench
        with self._nvml_lock:
            nvml = self._open_nvml()
        for checked in check_form(wanted, device, app.home, app.config, app.store, nvml):
            if worker.is_cancelled:
                return
            self.post_message(self.Validated(checked))

    @work(thread=True, exclusive=True, group="around", exit_on_error=False, name="Looking at this machine")
    def _look_around(self) -> None:
        """What this machine is, then what was measured on it last, which takes reading a session."""
        from tui.read.this_machine import device_words, last_measured

        with self._nvml_lock:
            words = device_words(self._open_nvml())
        self.post_message(self.Seen(words, ""))
        if last := last_measured(self.workbench.store):
            self.post_message(self.Seen(words, last))

    @on(Seen)
    def show_seen(self, event: Seen) -> None:
        event.stop()
        self.query_one("#here", HereLines).show_machine(event.words, event.last)

    def _open_nvml(self) -> Nvml:
        from probes.gpu.nvml import Nvml

        self._nvml = self._nvml or Nvml()
        return self._nvml

    @on(Validated)
    def show_checked(self, event: Validated) -> None:
        """The screen hears of it too, which may have waited for it."""
        before, self.checked = self.checked, event.checked
        checked = event.checked
        if before is None:
            self._mark_preset()
        planned = checked.plan.methods if checked.plan is not None else ()
        self._places = {method.name: place for place, method in enumerate(planned)}
        self._show_methods()
        self.query_one("#here", HereLines).show_offer(checked.choices)
        if before is None or before.devices != checked.devices:
            self.query_one("#field-device", ChoiceField).set_choices(checked.devices)
        self._show_first_time(before is None)
        if self._none_ticked():
            return
        self.query_one("#start", Button).disabled = checked.plan is None or self._starting
        if checked.plan is None:
            self._say(in_the_forms_words(checked.problem), bad=True)
            return
        takes = what_it_takes(checked)
        self._say(said_of_plan(checked.plan, in_the_forms_words(checked.problem)))
        self.query_one("#takes", Facts).show_facts(in_brief(takes) if self.has_class("low") else takes)

    def _show_methods(self) -> None:
        self.methods.show_rows(
            form_rows(self._choices, self.methods.marked, self._opened), "The catalogue has no methods."
        )

    def _show_first_time(self, first: bool) -> None:
        """In an empty home whose preset lacks its environment one key makes it, fetches the model and measures."""
        checked = self.checked
        if checked is None or not first:
            return
        ticked = set(self.methods.marked)
        needed = {needed_environment(choice) for choice in checked.choices if choice.method.name in ticked} - {""}
        if not checked.empty or not needed:
            return
        self.query_one("#field-create_environments", ChoiceField).choose(YES)
        said = f"Press r: it creates the environment {' and '.join(sorted(needed))}, fetches the model"
        said += " if it is not there, and measures the ticked methods. What that takes is said below."
        self.query_one("#first", Static).update(Content(plain(said)))
        self.add_class("empty")

    def _mark_preset(self) -> None:
        self.methods.mark(
            choice.method.name for choice in self._choices if self._choice("preset") in choice.method.presets
        )

    def _say(self, sentence: str, bad: bool = False) -> None:
        self.said.update(Content(plain(sentence)))
        self.said.set_class(bad, "bad")
        if bad:
            self.query_one("#start", Button).disabled = True
            self.query_one("#takes", Facts).show_facts([])

    @on(RowList.Highlighted)
    def describe(self, event: RowList.Highlighted) -> None:
        row: FormRow | None = event.row  # the screen hears of it too: its keys depend on the row
        if row is None:
            return
        self.about.border_title = row.key
        self.about.update(Content(plain(about_row(row))))

    @on(RowList.Chosen)
    def toggle(self, event: RowList.Chosen) -> None:
        event.stop()
        row: FormRow = event.row
        if row.can_be_ticked:
            self.methods.action_mark()
            return
        self._opened ^= {row.key}
        self._show_methods()

    @property
    def model(self) -> TextField:
        """The field that names the model."""
        return self.query_one("#field-model", TextField)

    def environment_wanted(self) -> str:
        """The environment that the row under the cursor lacks; "" where it lacks none that can be created."""
        row = self.methods.row
        return needed_environment(row.choice) if row is not None else ""

    def _name_cell(self, row: FormRow) -> Cell:
        if row.folded:
            return (f"{'▼' if row.opened else '▶'} {len(row.folded)} more", "dim")
        name = row.choice.method.name
        if name in self._places:
            return (name, method_style(self._places[name]))
        return (name, "dim" if row.choice.unavailable is not None else "")

    # Starting

    @on(Button.Pressed, "#start")
    def start(self) -> None:
        """Start the planned session, once; if it is invalid, show why instead."""
        if self._starting:
            return
        try:
            wanted = self.wanted()
        except ValueError as error:
            self._say(str(error), bad=True)
            return
        if self._none_ticked():
            return
        self._starting = True
        self.query_one("#start", Button).disabled = True
        self._start(wanted)

    @work(thread=True, group="start", exit_on_error=False, name="Starting the session")
    def _start(self, wanted: Wanted) -> None:
        from sessions.disk.session_folder import SessionError
        from sessions.planning.make import make_plan
        from sessions.planning.wanted import PlanError
        from sessions.run.launch import launch

        app = self.workbench
        try:
            folder = launch(app.home, make_plan(wanted, app.home, app.config, self._nvml))
        except (PlanError, SessionError) as error:
            app.call_from_thread(self._say, in_the_forms_words(str(error)), True)
        else:
            self.post_message(self.Started(folder))
        finally:
            self._starting = False


def _summary_cell(row: FormRow) -> Cell:
    if row.folded:
        return (folded_words(row), "dim")
    if row.choice.unavailable is not None:
        return (f"– {plain(row.choice.unavailable.reason)}", "warning")
    return (plain(row.choice.method.summary), "dim")
