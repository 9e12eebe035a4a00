"""Where compiled code is kept when compilers do not take the home's path: for the user alone, and found again."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.catalogue import compiler_paths
from methods.catalogue.compiler_paths import compiled_folder, is_taken
from methods.catalogue.native_code import tried, unbuildable

AWKWARD = ["with space", "it's", 'a "b"', "a,b", "a:b", "$HOME", "(1)", os.fsdecode(b"\xff")]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files, with nothing in it."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(compiler_paths, "TEMPORARY", ())
    return folder


@pytest.mark.parametrize("name", ["plain", "家", "with-dots.and_more+1"])
def test_a_path_that_compilers_take_is_kept(tmp_path: Path, temporary: Path, name: str) -> None:
    assert compiled_folder(tmp_path / name, "torch") == tmp_path / name / "compiled" / "torch"
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("name", AWKWARD)
def test_for_another_home_a_private_folder_elsewhere_is_found_again(tmp_path: Path, temporary: Path, name: str) -> None:
    folder = compiled_folder(tmp_path / name, "torch")
    assert is_taken(folder)
    assert folder.is_relative_to(temporary)
    assert folder == compiled_folder(tmp_path / name, "torch")
    assert [path.stat().st_mode & 0o777 for path in temporary.iterdir()] == [0o700]
    assert folder.parents[1] != compiled_folder(tmp_path / name / "another", "torch").parents[1]


def test_a_folder_that_somebody_else_made_is_not_trusted(tmp_path: Path, temporary: Path) -> None:
    home = tmp_path / "with space"
    folder = compiled_folder(home, "torch").parents[1]
    folder.chmod(0o777)
    assert compiled_folder(home, "torch").is_relative_to(home)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert compiled_folder(home, "torch").is_relative_to(home)
    lack = unbuildable("cpu", None, home) if shutil.which("g++") else None
    assert lack is None or "does not take the path" in lack.reason


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_code_is_compiled_and_loaded_for_a_home_with_a_space(tmp_path: Path, temporary: Path) -> None:
    own = Interpreter("own", Path(sys.executable), (), {}, "own", {})
    assert tried("cpu", own, tmp_path / "with space") is None
    assert any(temporary.rglob("trial-cpu.json"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_an_interpreter_that_torchs_compiler_cannot_link_with_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "with space").symlink_to(Path(sys.executable).parent)
    python = tmp_path / "with space" / Path(sys.executable).name
    lack = unbuildable("cpu", Interpreter("own", python, (), {}, "own", {}), tmp_path / "home")
    assert lack is not None
    assert "does not take the path" in lack.reason
