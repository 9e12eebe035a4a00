"""The keys of a TOML table, each read by its kind; what is wrong with one is a sentence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

Read = Callable[[Mapping[str, object], str], object]  # from the table and the key
READ: Final = "read"


class KeyProblemError(Exception):
    """One sentence on what is wrong with a key."""


def key(read: Read) -> Mapping[str, Read]:
    """The metadata of a dataclass's field that is read from the key of its name."""
    return {READ: read}


def keys_of(kind: type) -> Mapping[str, Read]:
    """The keys that a dataclass is read from."""
    return {field.name: field.metadata[READ] for field in dataclasses.fields(kind) if READ in field.metadata}


def read_keys(kind: type, table: Mapping[str, object], within: str = "") -> dict[str, Any]:
    """The values of a dataclass's fields from a table that holds nothing else. Raises KeyProblemError."""
    keys = keys_of(kind)
    only_known(table, keys, within)
    return {name: read(table, name) for name, read in keys.items()}


def nearest(name: str, names: Collection[str]) -> list[str]:
    """At most three names that the author of `name` may have meant, best first."""
    import difflib

    folded = {candidate.casefold(): candidate for candidate in names}
    wanted = name.casefold()
    close = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.6)
    containing = [candidate for candidate in folded if wanted and wanted in candidate and candidate not in close]
    return [folded[candidate] for candidate in [*close, *containing][:3]]


def only_known(table: Mapping[str, object], known: Collection[str], within: str) -> None:
    """Raise KeyProblemError where the table holds another key."""
    for name in table:
        if name not in known:
            close = nearest(name, known)
            hint = f"did you mean {close[0]!r}" if close else f"it can have {', '.join(known)}"
            raise KeyProblemError(f"{within}{name!r} is not known; {hint}")


def check_storable(value: object, place: str = "") -> None:
    """A session stores its methods as JSON: values that JSON cannot hold are rejected here."""
    if isinstance(value, dict):
        for name, inner in value.items():
            check_storable(inner, f"{place}.{name}" if place else name)
    elif isinstance(value, list):
        for inner in value:
            check_storable(inner, place)
    elif isinstance(value, float) and not math.isfinite(value):
        raise KeyProblemError(f"{place!r} is not a finite number")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise KeyProblemError(f"{place!r} is a number too large to store")
    elif not isinstance(value, str | bool | int | float):
        raise KeyProblemError(f"{place!r} is a date or time; write it as text")


def text(table: Mapping[str, object], name: str) -> str:
    """Text that must be there, and not blank."""
    if name not in table:
        raise KeyProblemError(f"{name!r} is missing")
    value = table[name]
    if not isinstance(value, str) or not value.strip():
        raise KeyProblemError(f"{name!r} must be a string")
    return value


def text_or_empty(table: Mapping[str, object], name: str) -> str:
    """Text; empty where it is left out."""
    value = table.get(name, "")
    if not isinstance(value, str):
        raise KeyProblemError(f"{name!r} must be a string")
    return value


def text_or_none(table: Mapping[str, object], name: str) -> str | None:
    """Text; None where it is left out or empty."""
    return text_or_empty(table, name) or None


def texts(table: Mapping[str, object], name: str) -> tuple[str, ...]:
    """A list of texts; empty where it is left out."""
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise KeyProblemError(f"{name!r} must be a list of strings")
    return tuple(value)


def inner_table(table: Mapping[str, object], name: str) -> dict[str, object]:
    """A table; empty where it is left out."""
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise KeyProblemError(f"{name!r} must be a table")
    return value
