"""The rows of the form's list of methods: those that can be measured here, and the others folded by what they need."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from methods.catalogue.availability import Choice


@dataclass(frozen=True, slots=True)
class FormRow:
    """A method, or where `folded` several that need the same: the first of them is `choice`.

    `group` is empty where the row above is of the same one. `environment` is what creating would make the folded ones
    available, "" where nothing does.
    """

    choice: Choice
    group: str
    folded: tuple[Choice, ...] = ()
    opened: bool = False
    environment: str = ""

    @property
    def key(self) -> str:
        return f"needs {self.environment or 'another device'}" if self.folded else self.choice.method.name

    @property
    def can_be_ticked(self) -> bool:
        return not self.folded


def form_rows(choices: Sequence[Choice], ticked: Collection[str], opened: Collection[str]) -> list[FormRow]:
    """Methods in the catalogue's order; a ticked one is never folded, and `opened` are the keys of folds whose methods
    are listed below them."""
    rows: list[FormRow] = []
    folds: dict[str, list[Choice]] = {}
    for choice in choices:
        if choice.unavailable is None or choice.method.name in ticked:
            _add(rows, choice)
        else:
            folds.setdefault(needed_environment(choice), []).append(choice)
    for environment, own in sorted(folds.items(), key=lambda fold: not fold[0]):  # those that can be helped first
        first = not any(row.folded for row in rows)
        row = FormRow(own[0], "not yet here" if first else "", tuple(own), environment=environment)
        is_open = row.key in opened
        rows.append(FormRow(row.choice, row.group, row.folded, is_open, environment))
        rows += [FormRow(choice, "") for choice in own if is_open]
    return rows


def needed_environment(choice: Choice) -> str:
    """The environment whose creation would make the method available; "" where there is none, or that is not enough."""
    missing = choice.unavailable
    helps = missing is not None and choice.lacking is None and missing.remedy.startswith("kasoku env create ")
    return choice.environment if helps else ""


def _add(rows: list[FormRow], choice: Choice) -> None:
    group = choice.method.group
    known = any(row.choice.method.group == group for row in rows)
    rows.append(FormRow(choice, "" if known else group))
