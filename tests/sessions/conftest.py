"""The place in which sessions of the scripted engine are run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from methods.base.home import private_folder
from tests.sessions.processes import end_all
from tests.sessions.workplace import Workplace, make_model

SET = ("KASOKU_HOME", "KASOKU_CONFIG", "HF_HOME")


def workplace_in(folder: Path) -> Workplace:
    """A workplace with the environment `plain`, this Python, and a model without a tokeniser."""
    work = Workplace(private_folder(folder / "home"), private_folder(folder / "config"), make_model(folder / "model"))
    work.environment("plain", Path(sys.executable))
    return work


def opened(folder: Path) -> Iterator[Workplace]:
    """A workplace that the environment variables point at; whatever still runs in it is ended with it."""
    work = workplace_in(folder)
    before = {name: os.environ.get(name) for name in SET}
    os.environ |= {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config), "HF_HOME": str(folder / "hf")}
    try:
        yield work
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        end_all(folder)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    """A workplace of the test's own."""
    yield from opened(tmp_path)


@pytest.fixture(scope="module")
def shared_work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A workplace that a module's tests share."""
    yield from opened(tmp_path_factory.mktemp("work"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB, mounted for the test; only root may."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m,mode=700", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        end_all(folder)
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
