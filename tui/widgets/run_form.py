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

from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.planning.presets import PRESETS
from tui.widgets.field import ChoiceField, TextField
from tui.widgets.row_list import Cell, ListColumn, RowList
from tui.widgets.workbench_app import WorkbenchApp
from tui.words import figures
from tui.words.terminal_text import plain

if TYPE_CHECKING:
    from probes.gpu.nvml import Nvml
    from sessions.disk.plan import Plan
    from sessions.planning.make import Choice, Wanted

CHECK_AFTER_S = 0.25
WIDE = 110
NONE_TICKED = "No method ticked: tick at least one with space."
NUMBERS = {
    "requests": int,
    "warmup": int,
    "blocks": int,
    "seed": int,
    "prompt_tokens": int,
    "max_new_tokens": int,
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "repetition_penalty": float,
}
LABELS = {
    "model": "model",
    "requests": "requests",
    "warmup": "warm-up",
    "blocks": "blocks",
    "seed": "seed",
    "prompt": "prompt",
    "prompt_tokens": "prompt tokens",
    "max_new_tokens": "max new tokens",
    "temperature": "temperature",
    "top_p": "top-p",
    "top_k": "top-k",
    "repetition_penalty": "repetition pen.",
}


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
            with VerticalScroll(id="fields", can_focus=False):
                presets = [(name, name) for name in PRESETS]
                yield ChoiceField("preset", "preset", presets, next(iter(PRESETS)))
                yield ChoiceField("device", "device", [("best available", ""), ("CPU", "cpu")], "")
                for name in ("model", "prompt", "requests", "blocks", "warmup", "max_new_tokens"):
                    yield TextField(LABELS[name], name)
                yield ChoiceField("length", "length", LENGTHS, "")
                yield ChoiceField("chat template", "template", TEMPLATES, "")
                for name in ("temperature", "top_p", "top_k", "repetition_penalty", "prompt_tokens", "seed"):
                    yield TextField(LABELS[name], name)
                yield ChoiceField("dtype", "dtype", DTYPES, "")
                yield ChoiceField("environments", "create", CREATE, "")
        with Widget(id="verdict"):
            yield Static("", id="said", markup=False)
            yield Button("Start (r)", id="start", variant="primary", compact=True, disabled=True)

    def on_mount(self) -> None:
        self._show_presets()
        self.focus_methods()
        self.call_after_refresh(self.check_now)  # what it imports in its thread would hold up the first paint

    def on_resize(self) -> None:
        self.set_class(self.size.width >= WIDE, "wide")

    def focus_methods(self) -> None:
        """Start where nothing types."""
        self.methods.focus()

    # What is asked for

    def _text(self, name: str) -> str:
        return self.query_one(f"#field-{name}", TextField).value

    def _choice(self, name: str) -> str:
        return self.query_one(f"#field-{name}", ChoiceField).value

    def wanted(self) -> Wanted:
        """What the form asks for. Raises ValueError with a sentence where a number is none."""
        from sessions.planning.make import Wanted

        numbers: dict[str, int | float | None] = {}
        for name, kind in NUMBERS.items():
            text = self._text(name)
            try:
                numbers[name] = kind(text) if text else None
            except ValueError:
                what = "whole number" if kind is int else "number"
                raise ValueError(f"{LABELS[name].capitalize()} {text!r} is not a {what}.") from None
        marked = tuple(self.methods.marked)
        length, template = self._choice("length"), self._choice("template")
        return Wanted(
            preset=self._choice("preset"),
            model=self._text("model") or None,
            methods=() if set(marked) == self._preset_methods() else marked,
            prompt=self._text("prompt") or None,
            stop_at_eos={"": None, "fixed": False, "eos": True}[length],
            template={"": None, "raw": False, "chat": True}[template],
            dtype=self._choice("dtype") or None,
            device=self._choice("device") or None,
            create_environments=self._choice("create") == "yes",
            **numbers,  # type: ignore[arg-type]
        )

    def _preset_methods(self) -> set[str]:
        preset = self._choice("preset")
        return {choice.method.name for choice in self.methods.rows if preset in choice.method.presets}

    def _show_presets(self) -> None:
        """The preset's values, for empty fields."""
        preset = PRESETS[self._choice("preset")]
        sampling = preset.sampling
        shown = {
            "model": preset.model,
            "requests": preset.requests,
            "warmup": preset.warmup,
            "blocks": preset.blocks,
            "prompt": preset.prompt or "the default prompt",
            "max_new_tokens": sampling.max_new_tokens,
            "temperature": f"{sampling.temperature:g}" + (" (greedy)" if not sampling.temperature else ""),
            "top_p": f"{sampling.top_p:g}",
            "top_k": sampling.top_k or "off",
            "repetition_penalty": f"{sampling.repetition_penalty:g}",
            "prompt_tokens": "the prompt's length",
            "seed": "drawn",
        }
        for name, value in shown.items():
            self.query_one(f"#field-{name}", TextField).set_placeholder(str(value))

    # Checking

    @on(Input.Changed)
    @on(Select.Changed)
    @on(RowList.Marked)
    def check_soon(self, event: Message) -> None:
        event.stop()
        if isinstance(event, Select.Changed) and event.select.id == "preset" and self.checked is not None:
            self._show_presets()
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
        from methods.catalogue.catalogue import load_catalogue
        from sessions.device.devices import DeviceError, choose, cpu
        from sessions.planning.make import PlanError, choices, estimate_s, make_plan

        worker = get_current_worker()
        app = self.workbench
        with self._nvml_lock:
            nvml = self._open_nvml()
            try:
                chosen = choose(device, nvml)
            except DeviceError:
                chosen = cpu()
            devices = _devices(nvml)
        catalogue = load_catalogue(app.config)
        rows = tuple(choices(catalogue, chosen, app.home, app.config))
        plan, problem, estimate = None, " ".join(catalogue.problems[:1]), None
        try:
            plan = make_plan(wanted, app.home, app.config, nvml)
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
        amount = (
            f"{len(plan.methods)} methods × {plan.blocks} blocks, {plan.requests} requests each"
            f" of {plan.sampling.max_new_tokens} tokens{' at most' if plan.sampling.stop_at_eos else ''},"
            f" on {plan.device_name or plan.device}"
        )
        about = (
            f"about {figures.duration(checked.estimate_s)}"
            if checked.estimate_s is not None
            else "duration unknown before a first run"
        )
        self._say(f"{amount}: {about}.{' ' + checked.problem if checked.problem else ''}")

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
        from sessions.planning.make import PlanError, make_plan
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


LENGTHS = [("preset's choice", ""), ("fixed", "fixed"), ("stop at EOS", "eos")]
TEMPLATES = [("preset's choice", ""), ("raw prompt", "raw"), ("chat template", "chat")]
DTYPES = [("preset's choice", ""), ("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")]
CREATE = [("use existing ones", ""), ("create missing ones", "yes")]


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
