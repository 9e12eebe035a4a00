"""The converted model that a job names: where it is, and what was said of it when it was made."""

from __future__ import annotations

import json
from pathlib import Path

from kasoku_engine import UnsupportedError

MANIFEST = "kasoku-conversion.json"


def converted_folder(job: dict) -> Path:
    """The folder an engine reads. Raises UnsupportedError where the model was not converted for it."""
    folder = job.get("converted_folder")
    if folder is None:
        raise UnsupportedError("The engine %s reads a converted model: its method lacks `conversion`." % job["engine"])
    return Path(folder)


def conversion_facts(folder: Path) -> dict | None:
    """What was made, from what, and how far it is from that; None where the folder is not one of Kasoku's."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return {name: content.get(name) for name in ("conversion", "model", "dtype", "made", "checked")}


def architecture_of(folder: str) -> str:
    """The class that a model's config names."""
    named = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")).get("architectures")
    return str(named[0]) if isinstance(named, list) and named else "of this model"
