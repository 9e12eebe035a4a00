"""A compiler that is missing is said before anything is measured, and a resume looks again."""

from __future__ import annotations

import shutil

import pytest

from methods.base.home import private_folder
from sessions.device import doctor
from tests.sessions.workplace import Workplace, runs_of


def compiling(work: Workplace) -> str:
    """A method of the scripted engine that compiles code."""
    name = work.method("compiling")
    file = private_folder(work.config / "methods") / "scripted.toml"
    file.write_text(file.read_text().replace("[methods.compiling]", "[methods.compiling]\nneeds = { compiler = true }"))
    return name


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_a_compiler_that_is_missing_is_a_row_and_once_it_is_there_a_resume_measures(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = compiling(work)
    monkeypatch.setenv("CXX", "/nowhere")
    found = doctor._compiling(work.home, work.config, "cpu")
    assert [finding.text for finding in found if "compiling" in finding.text and "CXX names /nowhere" in finding.text]

    folder = work.run(method)
    (row,) = runs_of(folder)
    assert (row["status"], "CXX names /nowhere" in row["error"]) == ("unavailable", True)
    monkeypatch.delenv("CXX")
    work.resume(folder)
    assert [row["status"] for row in runs_of(folder)][-1] == "ok"
    assert not [finding for finding in doctor._compiling(work.home, work.config, "cpu") if method in finding.text]
