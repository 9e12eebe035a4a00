"""The interpreter and the model that tests of real runs use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def torch_interpreter() -> Path:
    """A Python that has torch and transformers."""
    if path := os.environ.get("KASOKU_TEST_PYTHON"):
        return Path(path)
    pytest.skip("KASOKU_TEST_PYTHON names no interpreter with torch and transformers")


@pytest.fixture(scope="session")
def default_model() -> Path:
    """The folder of the default model."""
    if path := os.environ.get("KASOKU_TEST_MODEL"):
        return Path(path)
    pytest.skip("KASOKU_TEST_MODEL names no folder with the default model")
