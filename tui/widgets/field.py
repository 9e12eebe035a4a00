"""One labelled line of a form."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.suggester import SuggestFromList
from textual.widgets import Input, Select, Static


class TextField(Horizontal):
    """A label and a line of text to type; where it is `listed`, enter or down asks for what can be chosen instead."""

    DEFAULT_CSS = """
    TextField {
        height: 1;
        & > .label { width: 16; color: $text-muted; }
        & > Input { width: 1fr; }
        & > .more { width: 3; color: $foreground 50%; background: $surface; }
    }
    """

    class ListWanted(Message):
        """The user asks for the list of what this field can hold."""

        def __init__(self, field: TextField) -> None:
            super().__init__()
            self.field = field

    def __init__(
        self,
        label: str,
        name: str,
        placeholder: str = "",
        suggestions: Sequence[str] = (),
        *,
        listed: bool = False,
    ) -> None:
        super().__init__(id=f"field-{name}")
        self._label = label
        self._listed = listed
        self._input = Input(
            placeholder=placeholder,
            id=name,
            compact=True,
            suggester=SuggestFromList(suggestions, case_sensitive=False) if suggestions else None,
        )

    def compose(self) -> ComposeResult:
        yield Static(Content(self._label), classes="label")
        yield self._input
        if self._listed:
            yield Static(Content(" ▼"), classes="more")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._ask()

    def on_key(self, event: events.Key) -> None:
        if event.key == "down" and self._listed:
            event.stop()
            self._ask()

    def on_click(self, event: events.Click) -> None:
        if event.widget is not self._input:
            self._ask()

    def _ask(self) -> None:
        if self._listed:
            self.post_message(self.ListWanted(self))

    @property
    def value(self) -> str:
        return self._input.value.strip()

    def write(self, text: str) -> None:
        """This text instead of what was typed."""
        self._input.value = text

    def set_placeholder(self, text: str) -> None:
        """The default, shown as the placeholder."""
        self._input.placeholder = text


class ChoiceField(Horizontal):
    """A label and one of a few choices, each a pair of words and value."""

    DEFAULT_CSS = """
    ChoiceField {
        height: 1;
        & > .label { width: 16; color: $text-muted; }
        & > Select { width: 1fr; height: 1; }
    }
    """

    def __init__(self, label: str, name: str, choices: Sequence[tuple[str, str]], value: str) -> None:
        super().__init__(id=f"field-{name}")
        self._label = label
        self._select: Select[str] = Select(choices, value=value, allow_blank=False, id=name, compact=True)

    def compose(self) -> ComposeResult:
        yield Static(Content(self._label), classes="label")
        yield self._select

    @property
    def value(self) -> str:
        return str(self._select.value)

    def choose(self, value: str) -> None:
        """Choose this value, which is among the choices."""
        self._select.value = value

    def set_choices(self, choices: Sequence[tuple[str, str]]) -> None:
        """Other choices; the chosen one stays where it is still among them."""
        before = self._select.value
        self._select.set_options(choices)
        if any(value == before for _, value in choices):
            self._select.value = before
