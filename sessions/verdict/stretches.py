"""Which rounds of a session were measured when, where that was not at one time and in one state of the machine."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise

from sessions.disk.session_folder import SessionFile, Stretch


def stretches_told(session: SessionFile) -> str:
    """A sentence, "" where all rounds are of one day and nothing of the machine changed between them."""
    parts: list[tuple[Stretch, int, int]] = []
    for stretch in session.stretches:
        if stretch.rounds is None:
            continue
        first, last = stretch.rounds
        if parts and _alike(parts[-1][0], stretch):
            parts[-1] = parts[-1][0], min(first, parts[-1][1]), max(last, parts[-1][2])
        else:
            parts.append((stretch, first, last))
    if len(parts) < 2:
        return ""
    days = [_when(stretch, "%Y-%m-%d") for stretch, _, _ in parts]
    form = "%Y-%m-%d" if len(set(days)) == len(days) else "%Y-%m-%d %H:%M"
    when = [f"{_rounds(first, last)} on {_when(stretch, form)}" for stretch, first, last in parts]
    said = [f"rounds {', '.join(when)}"]
    for (before, _, _), (stretch, first, _) in pairwise(parts):
        if _restarted(before, stretch):
            said.append(f"the machine was restarted before round {first + 1}")
        if stretch.changed != before.changed:
            said.append(f"from round {first + 1} on {stretch.changed or 'all is as at the beginning again'}")
    return "; ".join(said)


def _alike(one: Stretch, other: Stretch) -> bool:
    same_day = _when(one, "%Y-%m-%d") == _when(other, "%Y-%m-%d")
    return same_day and one.changed == other.changed and not _restarted(one, other)


def _restarted(before: Stretch, after: Stretch) -> bool:
    return None not in (before.boot_id, after.boot_id) and before.boot_id != after.boot_id


def _rounds(first: int, last: int) -> str:
    return f"{first + 1}–{last + 1}" if last > first else f"{first + 1}"


def _when(stretch: Stretch, form: str) -> str:
    return format(datetime.fromtimestamp(stretch.began_ns / 1e9).astimezone(), form)
