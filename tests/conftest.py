"""What tests of the real thing share: one home with environments and the default model, kept between runs.

A test that uses an environment other than `torch` asks for `made_environment`, which marks it `engines`; those that
have an engine at work for long, or make environments of their own, say so themselves. `make test` leaves them out and
`make test-engines` runs them, but for those whose environments $KASOKU_TEST_WITHOUT names, separated by blanks, and
which are not there already.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from methods.base import file_lock
from methods.base.home import ENVIRONMENTS, MODELS, private_folder
from methods.base.interpreter import Interpreter
from methods.base.progress import Progress
from methods.environments import environments
from methods.models import models

# Runners of several tests, or anything else on the machine, would otherwise spin at each other's barriers: on two cores
# beside another load that made generating about ten times slower. Nothing here measures speed.
os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Where it is set, every process of a test would compile each of our modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# readline, which pytest imports, sets these for xdist's workers, where they would hide the size of a test's terminal.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)


MakeEnvironment = Callable[[str], Interpreter]


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and "made_environment" in item.fixturenames:
            item.add_marker("engines")
    long = {item.path for item in items if item.get_closest_marker("model")}
    items.sort(key=lambda item: item.path not in long)  # first, so that no worker is left with one at the end


def told(progress: Progress) -> None:
    """Shown by pytest when a preparation fails."""
    sys.stderr.write(f"{progress.phase}: {progress.detail}\n")


@pytest.fixture(scope="session")
def assets() -> Path:
    """A home with the environment `torch` and the default model, both made for real: $KASOKU_TEST_ASSETS, else a folder
    in the user's cache. It takes about a minute the first time, and nothing after."""
    folder = Path(os.environ.get("KASOKU_TEST_ASSETS") or Path.home() / ".cache" / "kasoku-tests")
    private_folder(folder)
    with file_lock.held(folder / ".lock", "tests", told):
        interpreter = environments.create("torch", folder, folder / "no-config", report=told)
        models.prepare(models.DEFAULT, folder, interpreter, told)
    return folder


def left_out(name: str, assets: Path) -> str:
    """Why the environment `name` is not made for a test, or ""."""
    found = environments.resolve(name, assets, assets / "no-config")
    if name not in os.environ.get("KASOKU_TEST_WITHOUT", "").split() or isinstance(found, Interpreter):
        return ""
    return f"the environment {name} is left out by KASOKU_TEST_WITHOUT: {found.reason}"


@pytest.fixture(scope="session")
def made_environment(assets: Path) -> MakeEnvironment:
    """Makes an environment of Kasoku's for real among the assets, by its name; skips the test where it cannot."""

    def made(name: str) -> Interpreter:
        if reason := left_out(name, assets):
            pytest.skip(reason)
        with file_lock.held(assets / ".lock", "tests", told):
            try:
                return environments.create(name, assets, assets / "no-config", report=told)
            except environments.CreationError as error:
                pytest.skip(f"the environment {name} cannot be created here: {error}")

    return made


@pytest.fixture(scope="session")
def torch_interpreter(assets: Path) -> Interpreter:
    """The interpreter of the environment `torch`."""
    found = environments.resolve("torch", assets, assets / "no-config")
    assert isinstance(found, Interpreter), found
    return found


@pytest.fixture(scope="session")
def default_model(assets: Path, torch_interpreter: Interpreter) -> models.Model:
    """The default model: real weights, real tokeniser."""
    return models.prepare(models.DEFAULT, assets, torch_interpreter, told)


@pytest.fixture
def home(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a config folder of the test's own, with the shared environments and models in it."""
    folder = private_folder(tmp_path / "home")
    for name in (ENVIRONMENTS, MODELS):
        (folder / name).symlink_to(private_folder(assets / name))
    monkeypatch.setenv("KASOKU_HOME", str(folder))
    monkeypatch.setenv("KASOKU_CONFIG", str(private_folder(tmp_path / "config")))
    return folder


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever starts a process fails the test."""

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    for module, name in ((subprocess, "Popen"), (os, "fork"), (os, "posix_spawn")):
        monkeypatch.setattr(module, name, refused)
