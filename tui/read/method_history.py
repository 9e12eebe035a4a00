"""What a method came to in the sessions of this home."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sessions.disk.store import Store
    from sessions.verdict.comparison_row import ComparisonRow

MOST: Final = 200  # sessions that are listed
COMPARED: Final = 20  # of them, the newest, whose figures are worked out


@dataclass(frozen=True, slots=True)
class Earlier:
    """One session with the method. `figures` are those of Compare, None where they are not known (yet); `status` is
    the session's."""

    session: str
    created_ns: int
    model: str
    device: str
    status: str
    figures: ComparisonRow | None = None


def history(store: Store, method: str) -> Iterator[list[Earlier]]:
    """The sessions with that method, newest first; again after each whose figures are known."""
    from sessions.verdict.comparison import ComparisonError, compare

    rows = [
        Earlier(row.id, row.created_ns, row.model, row.device, row.status)
        for row in store.listed()
        if method in row.methods and not row.problem
    ][:MOST]
    yield list(rows)
    for place, row in enumerate(rows[:COMPARED]):
        try:
            found = [each for each in compare(store, [(row.session, None)]).rows if each.method == method]
        except ComparisonError:
            continue
        if found:
            rows[place] = replace(row, figures=found[0])
            yield list(rows)
