"""What the tests of several engines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.models.converted import Converting


@pytest.fixture(scope="module")
def converting(torch_interpreter: Interpreter, assets: Path) -> Converting:
    """Makes and checks a model's other forms for real; they are kept among the assets."""
    return Converting(
        home=assets,
        dtype="bfloat16",
        device="cpu",
        gpu_uuids=(),
        threads=2,
        variables={},
        interpreter_of=lambda name: torch_interpreter,
        report=silent,
    )
