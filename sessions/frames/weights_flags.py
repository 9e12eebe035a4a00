"""Flags of what was loaded: weights measured in another form than they are stored in, or in part only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from methods.models.quantisation import name_of
from sessions.disk.frame_schema import FrameRow
from sessions.frames.flag import Flag


def weights_flags(run: FrameRow, resolved: Mapping[str, object]) -> Iterable[Flag]:
    """The flags of a block from what its engine resolved; none where the engine says nothing of it."""
    said = resolved.get("quantisation")
    if isinstance(said, Mapping) and said.get("dequantised") is True:
        stored, loaded = name_of(str(said.get("method"))), run.get("dtype") or "plain numbers"
        yield Flag("dequantised", f"the weights are stored quantised ({stored}) but were measured as {loaded}")
    if cause := _tensors(resolved.get("unused_weights"), "in the model's files"):
        yield Flag("part of the weights not used", cause)
    if cause := _tensors(resolved.get("unread_weights"), "of the model that the engine read nothing for"):
        yield Flag("weights not in the files", cause)


def _tensors(said: object, what: str) -> str:
    """How many, and one by name; "" where there are none."""
    if not isinstance(said, Mapping) or not isinstance(count := said.get("tensors"), int) or count < 1:
        return ""
    return f"{count} tensor{'s' if count > 1 else ''} {what}, such as {said.get('such_as')}"
