"""The models that a run can take here: prepared ones, the Hub's cache, folders of earlier sessions, shapes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui.words.figures import count, size

if TYPE_CHECKING:
    from methods.models.model import Model
    from methods.models.models import ListedModel
    from sessions.disk.store import Store


READY = ("ready", "in the Hub's cache")


@dataclass(frozen=True, slots=True)
class ModelRow:
    """`spec` is what names it to a run, `state` whether it is ready, `weights_bytes` what its weights take in a
    runner's memory, None where nothing says so."""

    spec: str
    state: str
    weights_bytes: int | None
    about: str = ""


def models_here(home: Path, store: Store, dtype: str) -> list[ModelRow]:
    """The default first, then what is ready, then what would have to be made first; reads manifests, no weights."""
    from methods.models.models import listed
    from methods.models.sources import DEFAULT

    known = [row for row in listed(home) if row.state != "incomplete"]
    rows = [_row(row, dtype) for row in known]
    there = {row.spec.partition("@")[0] for row in rows}
    rows += _cached(there)
    rows += _used_before(store, there)
    return sorted(rows, key=lambda row: (row.spec != DEFAULT, row.state not in READY))


def _row(row: ListedModel, dtype: str) -> ModelRow:
    if row.model is not None:
        words = [f"{count(row.model.parameters)} weights" if row.model.parameters else "", row.model.dtype]
        words += [f"quantised ({row.model.quantisation})" if row.model.quantisation else ""]
        about = ", ".join(word for word in words if word)
        return ModelRow(row.spec, "ready", loaded_bytes(row.model, dtype), about)
    if row.state == "broken":
        return ModelRow(row.spec, "changed", None, row.summary)
    return ModelRow(row.spec, *_to_be_made(row.spec, dtype), row.summary)


def _to_be_made(spec: str, dtype: str) -> tuple[str, int | None]:
    """What has to be done first for a model that Kasoku can make, and the bytes of its weights."""
    from methods.models.shape_size import parameters_of
    from methods.models.sources import Packaged, Synthetic, source_of
    from sessions.frames.bandwidth_limit import ITEM_BYTES

    source = source_of(spec)
    if isinstance(source, Packaged):
        return f"{size(source.download_bytes)} to fetch", None
    number = parameters_of(source.config) if isinstance(source, Synthetic) else None
    return "made first", number * ITEM_BYTES[dtype] if number is not None else None


def loaded_bytes(model: Model, dtype: str) -> int:
    """What the weights take in memory: plain ones are turned into `dtype` as they are loaded."""
    from sessions.frames.bandwidth_limit import ITEM_BYTES

    if model.quantisation is not None or not model.parameters:
        return model.weights_bytes
    return model.parameters * ITEM_BYTES[dtype]


def _cached(there: set[str]) -> Iterator[ModelRow]:
    from methods.models.hub_cache import cached_models

    for found in cached_models():
        if found.repository not in there:
            yield ModelRow(found.repository, "in the Hub's cache", found.weights_bytes, "as it was fetched last")


def _used_before(store: Store, there: set[str]) -> Iterator[ModelRow]:
    """Folders and GGUFs of the sessions here that are still there, though what was prepared of them is not."""
    for spec in dict.fromkeys(row.model for row in store.listed()):
        if Path(spec).is_absolute() and spec not in there and os.path.exists(spec):
            yield ModelRow(spec, "used before", None, "read again first")
