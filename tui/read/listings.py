"""The sessions for a list on a screen: those of this home at once, and a team's when its store has answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessions.disk.session_folder import SessionError

if TYPE_CHECKING:
    from sessions.disk.listing import SessionRow
    from sessions.disk.store import Store


@dataclass(frozen=True, slots=True)
class Listing:
    """Newest first. `whole` when no others are awaited; `problem` says why the store's are missing or old, or is ""."""

    rows: list[SessionRow]
    whole: bool = True
    problem: str = ""


def listings(store: Store) -> Iterator[Listing]:
    """First what is known at once, with what the store had the last time; then, where there is a store, all."""
    own = store.listed()
    if store.shared is None:
        yield Listing(own)
        return
    yield Listing(_together(own, store.shared_before), whole=False)
    try:
        yield Listing(_together(own, store.shared_rows()))
    except SessionError as error:
        yield Listing(_together(own, store.shared_before), problem=str(error))


def _together(own: list[SessionRow], theirs: list[SessionRow]) -> list[SessionRow]:
    return sorted([*own, *theirs], key=lambda row: row.id, reverse=True)
