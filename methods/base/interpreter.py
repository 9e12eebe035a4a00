"""Which Python a method runs in, or why none is available."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that can import an environment's engine.

    `paths` are put in front of its own `sys.path`, `variables` into its process's environment. `source` says where it
    comes from: the user's config, a managed environment, or the Python that Kasoku itself runs in. `versions` are the
    distributions found in it, by normalised name, without having started it.
    """

    environment: str
    python: Path
    paths: tuple[str, ...]
    variables: Mapping[str, str]
    source: Literal["configured", "managed", "own"]
    versions: Mapping[str, str]

    def repair(self) -> str:
        """What to do where its packages cannot be imported, as half a sentence."""
        if self.source == "managed":
            return "remove it with `kasoku env remove` and create it again"
        create = f"`kasoku env create {self.environment}`"
        if self.source == "own":
            return f"repair {self.python}, or make an environment with {create}"
        undo, use = (f"`kasoku env {what} {self.environment}" for what in ("remove", "use"))
        return f"repair {self.python}, point to another with {use} PYTHON`, or {undo}` and {create}"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No interpreter: one sentence why, and the one command that fixes it."""

    reason: str
    remedy: str
