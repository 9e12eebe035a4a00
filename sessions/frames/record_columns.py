"""The columns that a record fills by itself: its fields that a frame has a column of the same name for."""

from __future__ import annotations

import json
from functools import cache

import msgspec

from sessions.disk.frame_schema import SCHEMAS

GATHERED = "missing"  # a column that all records of a block or request add to


@cache
def column_names(kind: type[msgspec.Struct], frame: str) -> tuple[str, ...]:
    """Of a kind of record, the fields that the frame, `runs` or `requests`, has a column for."""
    return tuple(name for name in kind.__struct_fields__ if name in SCHEMAS[frame] and name != GATHERED)


def columns_of(record: msgspec.Struct, frame: str) -> dict[str, object]:
    """Those fields of a record, as the frame holds them: what is an object is JSON text there."""
    values = {name: getattr(record, name) for name in column_names(type(record), frame)}
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        for name, value in values.items()
    }
