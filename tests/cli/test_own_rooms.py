"""Folders named as our rooms, on PYTHONPATH or in the current folder, do not get in the way of any process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kasoku import ROOMS
from tests.sessions.conftest import opened
from tests.sessions.workplace import KASOKU, Workplace, runs_of

IMPORTED = "a folder of the user's was imported"


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    yield from opened(tmp_path)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder with a package of each of our names, which end whoever imports them."""
    folder = tmp_path / "theirs"
    for room in ROOMS:
        (folder / room).mkdir(parents=True)
        (folder / room / "__init__.py").write_text(f"raise SystemExit({IMPORTED!r})\n")
    return folder


def kasoku(theirs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(KASOKU), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=theirs,
        env={**os.environ, "PYTHONPATH": str(theirs)},
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["methods"], ["env", "list"], ["models", "list"], ["sessions"], ["doctor"]]
)
def test_no_command_imports_them(work: Workplace, theirs: Path, arguments: list[str]) -> None:
    done = kasoku(theirs, *arguments)
    assert IMPORTED not in done.stderr
    assert done.returncode == 0, done.stderr


def test_nor_does_a_measurement_with_all_its_processes(work: Workplace, theirs: Path) -> None:
    done = kasoku(theirs, *work.options(work.method("plain")))
    assert done.returncode == 0, done.stderr
    assert [run["status"] for run in runs_of(work.sessions()[0])] == ["ok"]
