"""A question in front of a screen: yes or no, or a line of text."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from tui.screens.dismissed_once import DismissedOnce
from tui.words.terminal_text import plain, printable


class Confirm(DismissedOnce, ModalScreen[bool]):
    """Asks before something irreversible; escape means no."""

    CSS_PATH = "ask.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "Yes", id="ask.yes", tooltip="Do it"),
        Binding("n,escape", "answer(False)", "No", id="ask.no", tooltip="Change nothing"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self.question = question

    def compose(self) -> ComposeResult:
        with Vertical(classes="question"):
            yield Static(Content(plain(self.question)))
            yield Static(Content("y or enter: yes   n or escape: no"), classes="keys")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)


class AskText(DismissedOnce, ModalScreen[str | None]):
    """Asks for a line of text; escape gives None."""

    CSS_PATH = "ask.tcss"
    AUTO_FOCUS = "Input"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Cancel", id="ask.cancel", tooltip="Change nothing")
    ]

    def __init__(self, question: str, value: str = "") -> None:
        super().__init__()
        self.question = question
        self.value = value

    def compose(self) -> ComposeResult:
        with Vertical(classes="question"):
            yield Static(Content(plain(self.question)))
            yield Input(printable(self.value), id="answer")
            yield Static(Content("enter: accept   escape: cancel"), classes="keys")

    @on(Input.Submitted)
    def take(self, event: Input.Submitted) -> None:
        event.stop()
        self.dismiss(event.value)

    def action_leave(self) -> None:
        self.dismiss(None)
