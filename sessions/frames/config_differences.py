"""Whether all methods read the model's config alike: what each engine resolved of it, beside its reference's.

The facts are those of methods/runner/kasoku_config_facts.py, as the engine reported them when it had loaded the model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final

from sessions.disk.frame_schema import FrameRow

FLAG: Final = "config read differently"
UNREAD: Final = "unread"  # why there are no facts
NEAR: Final = 0.01  # what rounding leaves between two readings of one number


def resolved_config(row: FrameRow) -> Mapping[str, object]:
    """The facts that a block's engine resolved; empty if it told none."""
    resolved = row.get("resolved")
    try:
        told = json.loads(resolved) if isinstance(resolved, str) else resolved
    except ValueError:
        return {}
    config = told.get("config") if isinstance(told, Mapping) else None
    return config if isinstance(config, Mapping) else {}


def differences(own: Mapping[str, object], other: Mapping[str, object], name: str) -> list[str]:
    """Half a sentence for each fact that both know and that differs; `name` is whose the other facts are."""
    return [
        f"{fact} is {_words(own[fact])}, but {_words(other[fact])} for {name}"
        for fact in own
        if fact != UNREAD
        and own[fact] is not None
        and other.get(fact) is not None
        and not _alike(own[fact], other[fact])
    ]


def flag(rows: Sequence[FrameRow], methods: Sequence[str]) -> None:
    """Flag the blocks whose engine read the config otherwise than that of their reference, or if that is unknown, than
    the first of `methods` that is known."""
    known: dict[str, Mapping[str, object]] = {}
    for row in rows:
        if facts := resolved_config(row):
            known.setdefault(row["method"], facts)
    first = next((name for name in methods if name in known), None)
    for row in rows:
        beside = row["reference"] if row["reference"] in known else first
        if beside is not None and beside != row["method"]:
            found = differences(resolved_config(row), known[beside], beside)
            row["flags"] += [f"{FLAG}: {'; '.join(found)}"] if found else []


def _alike(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=NEAR)
    return one == other


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)[:80]
