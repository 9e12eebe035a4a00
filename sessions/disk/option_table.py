"""Options as a table: an option is a field of a dataclass, and its metadata holds everything else about it.

Standard library only, because the command line is parsed from it. The dataclass's module must not postpone its
annotations: an option's type is the field's.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Any, Final, TypeVar

Value = str | int | float | bool
Say = Callable[[str, Mapping[str, Value]], str]
Asked = TypeVar("Asked")
KEY: Final = "option"
AMOUNT: Final = r"(\d+(?:\.\d+)?)"
DURATION: Final = re.compile(rf"(?=.)(?:{AMOUNT} ?h)? ?(?:{AMOUNT} ?m(?:in)?)? ?(?:{AMOUNT} ?s)?")


class OptionError(ValueError):
    """A value out of its bounds; the message is a sentence that names the flag. msgspec reports it as it decodes."""


def _as_it_is(shown: str, _: Mapping[str, Value]) -> str:
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What is declared of an option beside its field's name, type and default.

    `say` gives the words of a plan's fact, from the value as text and all values of the plan by name; facts of one
    heading become one, and what says "" is left out. `table` fills in what stands below the line.
    """

    help: str
    metavar: str = ""
    flag: str = ""  # --name where empty
    also: str = ""  # another flag that says the same
    bare: Value | None = None  # what the flag says without a value; None: it takes one
    negative: str = ""  # the flag that says no, where that can be said
    negative_help: str = ""
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    listed: type[int] | type[float] | None = None  # a list of these, kept as the text "1,2,4"
    unit: str = ""  # "s": a duration, said and told as one; "%": a share, said and told as a percentage
    label: str = ""  # on the form, which leaves out what has none
    words: tuple[str, str] = ("no", "yes")  # on the form, of a bool
    unsaid: str = ""  # on the form, for a default that stands for something else
    zero: str = ""  # on the form, for 0
    heading: str | None = None  # of its fact: the label where None, no fact where empty
    say: Say = _as_it_is
    job: bool = False  # the runner's job holds it under its name

    name: str = ""
    path: tuple[str, ...] = ()  # of the field in the plan: ("sampling", "top_k")
    kind: type[Value] = str
    optional: bool = False
    default: Value | None = None

    def of(self, options: object) -> Value | None:
        """The value in a dataclass of the table."""
        found: Any = options
        for name in self.path:
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]

    @property
    def what(self) -> str:
        """What a value is, in a sentence."""
        if self.listed is not None:
            return "whole number" if self.listed is int else "number"
        if self.unit:
            return {"s": "duration such as 90s, 30m or 2h", "%": "percentage such as 5%"}[self.unit]
        return {int: "whole number", float: "number"}.get(self.kind, "text")

    def read(self, text: str) -> Value:
        """The value that a person typed. Raises ValueError with a sentence."""
        if self.listed is not None:
            return ",".join(str(n) if isinstance(n, int) else _exactly(n) for n in self.numbers(text))
        try:
            if self.unit == "s":
                return _seconds(text)
            return _share(text) if self.unit == "%" else self.kind(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a {self.what}") from None

    def numbers(self, text: str) -> list[float]:
        """The numbers of a list as it is typed, each once, in its order. Raises ValueError with a sentence."""
        found: dict[float, None] = {}  # an int stays one
        for part in text.split(","):
            try:
                found[(self.listed or float)(part)] = None
            except ValueError:
                raise ValueError(f"{part.strip()!r} is not a {self.what}") from None
        return list(found)

    def text(self, value: float) -> str:
        """A number as it can be typed."""
        from decimal import Decimal

        return f"{(Decimal(_exactly(value)) * 100).normalize():f}%" if self.unit == "%" else _exactly(value)

    def check(self, value: Value | None) -> None:
        """Raise OptionError where the value is out of bounds."""
        if self.listed is not None and isinstance(value, str):
            try:
                numbers = self.numbers(value)
            except ValueError as error:
                raise OptionError(f"{self.flag}: {error}.") from None
            for number in numbers:
                self._check_bounds(number)
        elif value is None or isinstance(value, str):
            if value is not None and self.choices and value not in self.choices:
                raise OptionError(f"{self.flag} {value} is unknown: choose from {', '.join(self.choices)}.")
        else:
            self._check_bounds(value)

    def _check_bounds(self, value: float) -> None:
        if self.least is None or self.most is None or self.least <= value <= self.most:
            return  # a NaN is outside of everything
        if int in (self.kind, self.listed):
            raise OptionError(
                f"{self.flag} {value} is out of range: use a whole number from {self.least} to {self.most:,}."
            )
        shown, least, most = (self.told(number) for number in (value, self.least, self.most))
        raise OptionError(f"{self.flag} {shown} is out of range: use a {self.what.split()[0]} from {least} to {most}.")

    def told(self, value: float) -> str:
        """A number for people: "5%", "900 s"."""
        return f"{value * 100:g}%" if self.unit == "%" else f"{value:g}{' s' if self.unit else ''}"

    def arguments(self, value: Value | None) -> list[str]:
        """The words of a command line that say the value exactly."""
        if value is None:
            return []
        if isinstance(value, bool):
            flag = self.flag if value else self.negative
            return [flag] if flag else []
        text = self.text(value) if isinstance(value, float) else str(value)
        return [f"{self.flag}={text}"] if text.startswith("-") else [self.flag, text]


def _seconds(text: str) -> float:
    """ "90", "90s", "1.5h", "1h30m" in seconds."""
    found = DURATION.fullmatch(text.strip().lower())
    if found is None:
        return float(text)
    return sum(float(part or 0) * size for part, size in zip(found.groups(), (3600, 60, 1), strict=True))


def _share(text: str) -> float:
    """ "5%" and "5" as 0.05."""
    from decimal import Decimal

    try:
        return float(Decimal(text.strip().removesuffix("%").strip()) / 100)
    except ArithmeticError:
        raise ValueError from None


def _exactly(value: float) -> str:
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


def option(declared: Option) -> Mapping[str, Option]:
    """A field's metadata."""
    return {KEY: declared}


def table(kind: type) -> tuple[Option, ...]:
    """The options of a dataclass, those of the dataclasses within it in their place."""
    return _table(kind)


@cache
def _table(kind: type) -> tuple[Option, ...]:
    rows: list[Option] = []
    for field in dataclasses.fields(kind):
        if (declared := field.metadata.get(KEY)) is not None:
            rows.append(_filled(declared, field))
        elif group := _group(field):
            rows += (dataclasses.replace(row, path=(field.name, *row.path)) for row in table(group))
    return tuple(rows)


def _filled(declared: Option, field: "dataclasses.Field[Any]") -> Option:
    kinds: tuple[Any, ...] = getattr(field.type, "__args__", (field.type,))
    default: Any = field.default
    flag = declared.flag or f"--{field.name.replace('_', '-')}"
    return dataclasses.replace(
        declared,
        name=declared.name or field.name,
        path=(field.name,),
        flag=flag,
        kind=kinds[0],
        optional=NoneType in kinds,
        default=default,
    )


def _group(field: "dataclasses.Field[Any]") -> type | None:
    """The dataclass that a field holds."""
    return field.type if isinstance(field.type, type) and dataclasses.is_dataclass(field.type) else None


def check(options: object) -> None:
    """Raise OptionError where a value of a dataclass of the table is out of bounds."""
    for row in table(type(options)):
        row.check(row.of(options))


def changed(options: Asked, values: Mapping[str, Value]) -> Asked:
    """The same dataclass with these values by name. Raises OptionError."""
    fields: dict[str, object] = {}
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        if (declared := field.metadata.get(KEY)) is not None:
            if (row := _filled(declared, field)).name in values:
                fields[field.name] = row.kind(values[row.name])
        elif _group(field):
            fields[field.name] = changed(getattr(options, field.name), values)
    return dataclasses.replace(options, **fields)  # type: ignore[type-var]
