"""A named fact, as the screens list them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """A label and what is said; a fact without a label is a heading, one without either an empty line."""

    label: str
    text: str
    style: str = ""
