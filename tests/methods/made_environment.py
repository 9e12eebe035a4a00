"""An environment of Kasoku's made for real in the folder that tests keep, or the test skipped with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.base import file_lock
from methods.base.interpreter import Interpreter
from methods.environments import environments
from tests.conftest import told


def made_environment(name: str, assets: Path) -> Interpreter:
    """The environment `name` under `assets`, created the first time."""
    with file_lock.held(assets / ".lock", "tests", told):
        try:
            return environments.create(name, assets, assets / "no-config", report=told)
        except environments.CreationError as error:
            pytest.skip(f"the environment {name} cannot be created here: {error}")
