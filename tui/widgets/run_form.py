"""The form for planning a run: validated as it is filled in, with an estimate of the duration."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
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
from tui.widgets.field import ChoiceField
from tui.widgets.option_fields import option_fields, said, show_defaults
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.widgets.workbench_app import WorkbenchApp
from tui.words import figures
from tui.words.amount import amount
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice
    from probes.gpu.nvml import Nvml
    from sessions.disk.plan import Plan
    from sessions.disk.session_folder import SessionFolder
    from sessions.planning.wanted import Wanted

CHECK_AFTER_S = 0.25
WIDE = 110
NONE_TICKED = "No method ticked: tick at least one with space."
OPTIONS = table(RunOptions)


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of validating the form: a plan, or the sentence that says why it is invalid."""

    plan: Plan | None
    problem: str
    choices: tuple[Choice, ...]
    estimate_s: float | None
    devices: tuple[tuple[str, str], ...]


class RunForm(Widget):
    """Empty fields take the preset's values, shown as placeholders."""

    DEFAULT_CSS = """
    RunForm {
        layout: vertical;
        height: 1fr;
        #halves { layout: vertical; height: 1fr; }
        &.wide #halves { layout: horizontal; }
        #choose { height: 1fr; min-height: 5; }
        &.wide #choose { width: 1fr; height: 1fr; border-right: solid $panel; }
        #about { height: 2; padding: 0 1; color: $text-muted; }
        &.wide #about { height: auto; max-height: 9; padding: 1; }
        #fields { height: 9; layout: grid; grid-size: 2; grid-gutter: 0 2; grid-rows: 1; padding: 0 1; }
        &.wide #fields { width: 56; height: 1fr; layout: vertical; }
        #verdict { height: auto; min-height: 3; max-height: 6; layout: horizontal; padding: 0 1; }
        #verdict { border-top: solid $panel; }
        #said { width: 1fr; height: auto; }
        #said.bad { color: $text-error; }
        #start { width: 14; }
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

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self.checked: Checked | None = None
        self._timer: Timer | None = None
        self._nvml: Nvml | None = None
        self._nvml_lock = threading.Lock()
        self._starting = False

    @property
    def workbench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    def compose(self) -> ComposeResult:
        with Widget(id="halves"):
            with Vertical(id="choose"):
                columns: list[ListColumn[Choice]] = [
                    ListColumn("method", 28, _name_cell, grow=1),
                    ListColumn("group", 12, lambda choice: (plain(choice.method.group), "dim"), need=70),
                    ListColumn("what it is, or why it is unavailable", 20, _summary_cell, grow=9),
                ]
                yield RowList(
                    columns,
                    lambda choice: choice.method.name,
                    markable=True,
                    empty="Reading the catalogue…",
                    id="form-methods",
                )
                yield Static(id="about", markup=False)
            yield VerticalScroll(id="fields", can_focus=False)
        with Widget(id="verdict"):
            yield Static("", id="said", markup=False)
            yield Button("Start (r)", id="start", variant="primary", compact=True, disabled=True)

    def on_mount(self) -> None:
        self._lay_out(self.app.size.width)
        self.focus_methods()
        self.call_after_refresh(self._mount_fields)  # they, and the imports of a check, would delay the first paint

    async def _mount_fields(self) -> None:
        presets = [(name, name) for name in PRESETS]
        devices = [("best available", ""), ("CPU", "cpu")]
        fields = option_fields(OPTIONS, {"preset": presets, "device": devices})
        await self.query_one("#fields").mount_all(fields)
        self._show_preset()
        self.call_after_refresh(self.check_now)

    def _lay_out(self, width: int) -> None:
        self.set_class(width >= WIDE, "wide")

    def on_resize(self) -> None:
        self._lay_out(self.size.width)

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

    def _preset_methods(self) -> set[str]:
        preset = self._choice("preset")
        return {choice.method.name for choice in self.methods.rows if preset in choice.method.presets}

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
        from sessions.device.devices import DeviceError, choose, cpu
        from sessions.planning.make import estimate_s, plan_of
        from sessions.planning.offer import offer_on
        from sessions.planning.wanted import PlanError

        worker = get_current_worker()
        app = self.workbench
        refused = ""
        with self._nvml_lock:
            nvml = self._open_nvml()
            try:
                chosen = choose(device, nvml)
            except DeviceError as error:
                chosen, refused = cpu(), str(error)
            devices = _devices(nvml)
        offer = offer_on(chosen, app.home, app.config)
        rows = tuple(offer.choices.values())
        plan, problem, estimate = None, " ".join(offer.problems[:1]), None
        try:
            if refused:
                raise PlanError(refused)
            plan = plan_of(wanted, app.home, offer)
        except PlanError as error:
            problem = _in_the_forms_words(str(error))
        checked = Checked(plan, problem, rows, None, devices)
        if worker.is_cancelled:
            return
        self.post_message(self.Validated(checked))
        if plan is not None:
            estimate = estimate_s(plan, app.store)
        if estimate is not None and not worker.is_cancelled:
            self.post_message(self.Validated(Checked(plan, problem, rows, estimate, devices)))

    def _open_nvml(self) -> Nvml:
        from probes.gpu.nvml import Nvml

        self._nvml = self._nvml or Nvml()
        return self._nvml

    @on(Validated)
    def show_checked(self, event: Validated) -> None:
        event.stop()
        first = self.checked is None
        before, self.checked = self.checked, event.checked
        checked = event.checked
        self.methods.show_rows(checked.choices, "The catalogue has no methods.")
        if first:
            self._mark_preset()
        if before is None or before.devices != checked.devices:
            self.query_one("#field-device", ChoiceField).set_choices(checked.devices)
        if self._none_ticked():
            return
        self.query_one("#start", Button).disabled = checked.plan is None or self._starting
        if checked.plan is None:
            self._say(checked.problem, bad=True)
            return
        plan = checked.plan
        each = f"{len(plan.methods)} methods, {amount(plan, plan.goal)}"
        tokens = f"{plan.sampling.max_new_tokens} tokens{' at most' if plan.sampling.stop_at_eos else ''}"
        about = (
            f": about {figures.duration(checked.estimate_s)}"
            if checked.estimate_s is not None
            else ": duration unknown before a first run"
            if plan.until is None
            else ""
        )
        problem = f" {checked.problem}" if checked.problem else ""
        self._say(f"{each}, {tokens} a request, on {plan.device_name or plan.device}{about}.{problem}")

    def _mark_preset(self) -> None:
        self.methods.mark(
            choice.method.name for choice in self.methods.rows if self._choice("preset") in choice.method.presets
        )

    def _say(self, sentence: str, bad: bool = False) -> None:
        self.said.update(Content(plain(sentence)))
        self.said.set_class(bad, "bad")
        if bad:
            self.query_one("#start", Button).disabled = True

    @on(RowList.Highlighted)
    def describe(self, event: RowList.Highlighted) -> None:
        event.stop()
        choice = event.row
        if choice is None:
            return
        method = choice.method
        parts = [f"{method.summary.rstrip('.')}."]
        if choice.unavailable is not None:
            fix = f" Fix: {choice.unavailable.remedy}." if choice.unavailable.remedy else ""
            parts.insert(0, f"Cannot run here: {choice.unavailable.reason}{fix}")
        elif method.reference:
            parts.append(f"Reference: {method.reference}; differs in {method.differs.rstrip('.')}.")
        self.about.update(Content(plain(" ".join(parts))))

    @on(RowList.Chosen)
    def toggle(self, event: RowList.Chosen) -> None:
        event.stop()
        self.methods.action_mark()

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
            app.call_from_thread(self._say, _in_the_forms_words(str(error)), True)
        else:
            self.post_message(self.Started(folder))
        finally:
            self._starting = False


def _in_the_forms_words(sentence: str) -> str:
    """A sentence about the command line's options, about the form's fields instead."""
    sentence = sentence.replace("add --create-environments", "have missing environments created")
    return re.sub(r"--([a-z][a-z-]*)", lambda found: found[1].replace("-", " "), sentence)


def _devices(nvml: Nvml) -> tuple[tuple[str, str], ...]:
    """What the device field offers: words and value."""
    from probes.gpu.visible_gpus import visible_gpus

    gpus = [(f"GPU {gpu.position} {plain(gpu.name)}", str(gpu.position)) for gpu in visible_gpus(nvml).gpus]
    several = [("all GPUs", ",".join(value for _, value in gpus))] if len(gpus) > 1 else []
    return (("idlest GPU" if gpus else "best available", ""), *gpus, *several, ("CPU", "cpu"))


def _name_cell(choice: Choice) -> Cell:
    return (choice.method.name, "dim" if choice.unavailable is not None else "")


def _summary_cell(choice: Choice) -> Cell:
    if choice.unavailable is not None:
        return (f"– {plain(choice.unavailable.reason)}", "warning")
    return (plain(choice.method.summary), "dim")
