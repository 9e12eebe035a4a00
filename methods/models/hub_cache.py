"""What the Hugging Face Hub's cache holds of models, without asking the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from methods.base.bounded_read import read_regular
from methods.base.user_path import PathError
from methods.models.safetensors_folder import WeightsError, weight_files

PREFIX = "models--"


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A repository whose newest fetched commit is there with all its weights, in files of so many bytes."""

    repository: str
    commit: str
    weights_bytes: int


def cached_models() -> Iterator[CachedModel]:
    """The models in the cache that a session could take, by name; what is incomplete is left out."""
    from huggingface_hub import constants

    root = Path(constants.HF_HUB_CACHE)
    try:
        names = sorted(path.name for path in root.iterdir())
    except OSError:
        return
    for name in names:
        repository = name.removeprefix(PREFIX).replace("--", "/", 1)
        if not name.startswith(PREFIX) or "/" not in repository:
            continue
        try:
            commit = read_regular(root / name / "refs" / "main").decode().strip()
            folder = root / name / "snapshots" / commit
            if os.path.isfile(folder / "config.json"):
                yield CachedModel(repository, commit, sum(path.stat().st_size for path in weight_files(folder)))
        except (OSError, UnicodeDecodeError, PathError, WeightsError):
            continue
