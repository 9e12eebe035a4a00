"""Models and interpreters as a preparation finds them, for tests that prepare none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from methods.base.interpreter import Interpreter
from methods.models.model import Model
from sessions.disk.records import Prepared

NOWHERE = Path("/nowhere/to/be/found")


def made_model(**fields: Any) -> Model:
    """One without a folder and about which nothing is known but `fields`."""
    needed: dict[str, Any] = {"name": "m", "source": "m", "folder": NOWHERE, "weights_digest": "", "dtype": "bfloat16"}
    return Model(**({"parameters": 0, "weights_bytes": 0} | needed | fields))


def made_interpreter(python: Path = NOWHERE) -> Interpreter:
    """One of an environment `torch` without a distribution in it."""
    return Interpreter("torch", python, (), {}, "configured", {})


def made_prepared(*methods: str) -> Prepared:
    """With that model, an interpreter for each of these methods, and a prompt of one token."""
    return Prepared(
        t=0,
        model=made_model(),
        prompts=[[1]],
        prompt_text=None,
        prompt_template=False,
        stop_token_ids=[],
        interpreters={name: made_interpreter() for name in methods},
        unavailable={},
    )
