"""Options of a run as fields of a form: text to type, or a few choices. Left alone, a field asks for nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from textual.widget import Widget

from sessions.disk.option_table import Option, Value
from tui.widgets.field import ChoiceField, TextField

Choices = Sequence[tuple[str, str]]  # words and value
AS_PRESET = ("preset's choice", "")
NO, YES = "no", "yes"


def option_fields(
    options: Iterable[Option], offered: Mapping[str, Choices], listed: Collection[str] = ()
) -> Iterator[TextField | ChoiceField]:
    """A field for each option that has a label; `offered` are choices that the form alone knows, `listed` the names of
    those for whose texts it has a list."""
    for option in options:
        if option.label:
            choices = offered.get(option.name) or _choices(option)
            yield (
                ChoiceField(option.label, option.name, choices, choices[0][1])
                if choices
                else TextField(option.label, option.name, listed=option.name in listed)
            )


def _choices(option: Option) -> Choices:
    if option.choices:
        return [AS_PRESET, *((choice, choice) for choice in option.choices)]
    if option.kind is not bool:
        return []
    no, yes = option.words
    return [AS_PRESET, (no, NO), (yes, YES)] if option.negative else [(no, ""), (yes, YES)]


def show_defaults(form: Widget, options: Iterable[Option], preset: object) -> None:
    """What holds where nothing is typed, in the fields that are typed into."""
    fields = _fields(form)
    for option in options:
        field = fields.get(f"field-{option.name}")
        if isinstance(field, TextField):
            field.set_placeholder(_default(option, option.of(preset)))


def _fields(form: Widget) -> dict[str | None, TextField | ChoiceField]:
    """All fields by their ids, in one walk: a query for each would go through the whole form as often as it has any."""
    return {field.id: field for field in form.walk_children(Widget) if isinstance(field, TextField | ChoiceField)}


def _default(option: Option, value: Value | None) -> str:
    if option.unsaid and value == option.default:
        return option.unsaid
    if value is None:
        return ""
    if option.zero and not value:
        return option.zero
    return option.told(value) if isinstance(value, float) else str(value)


def said(form: Widget, options: Iterable[Option]) -> dict[str, Value]:
    """What the fields ask for, by the option's name. Raises ValueError with a sentence where a number is none."""
    fields = _fields(form)
    return {
        option.name: _value(option, text)
        for option in options
        if (field := fields.get(f"field-{option.name}")) is not None and (text := field.value)
    }


def _value(option: Option, text: str) -> Value:
    if option.kind is bool:
        return text == YES
    try:
        return option.read(text)
    except ValueError as error:
        raise ValueError(f"{option.label[:1].upper()}{option.label[1:]} {error}.") from None
