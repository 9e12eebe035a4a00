"""A server's own model: of which a session knows the name and nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from methods.models.model import Model

SERVED: Final = "server:"  # what a plan's model begins with, where the server's name for it follows


def is_served(spec: str) -> bool:
    """Whether a plan's model is a server's."""
    return spec.startswith(SERVED)


def served_model(spec: str) -> Model:
    """The model as a session needs to know it; its folder is none, in which nothing is found."""
    return Model(
        name=spec.removeprefix(SERVED),
        source=spec,
        folder=Path(os.devnull),
        weights_digest="",
        parameters=None,
        weights_bytes=0,
        dtype="",
    )
