"""A module of the runner, imported as its process does: from its folder alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import methods


def runner_module(name: str) -> ModuleType:
    """A fresh import of `name`; runner modules that it imports are not reloaded."""
    folder = Path(methods.__file__).parent / "runner"
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        specification = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    return module
