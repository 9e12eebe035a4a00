"""A flag: a name with its cause, written `name: cause`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Flag:
    """`name` says what is wrong, `cause` what was observed."""

    name: str
    cause: str

    def __str__(self) -> str:
        return f"{self.name}: {self.cause}" if self.cause else self.name
