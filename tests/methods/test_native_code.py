"""What compiled code takes is looked for, and tried, before anything is measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import methods
from methods.base.interpreter import Interpreter
from methods.catalogue import native_code
from methods.catalogue.native_code import compiler_variables, tried, unbuildable

RUNNER = Path(methods.__file__).parent / "runner"
needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")


def own(variables: dict[str, str] | None = None) -> Interpreter:
    return Interpreter("own", Path(sys.executable), (), variables or {}, "own", {})


def executable(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of the PATH; no compiler is named."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.mark.parametrize(
    ("kind", "there", "says"),
    [
        ("cpu", "gcc", "finds no C++ compiler (g++ or clang++) on the PATH: install g++ (Debian, Ubuntu) or gcc-c++"),
        ("cuda", "g++", "finds no C compiler (gcc or clang) on the PATH: install gcc"),
    ],
)
def test_the_compiler_of_a_language_is_looked_for(bare: Path, kind: str, there: str, says: str) -> None:
    executable(bare / there, "")
    lack = unbuildable(kind, None, bare)

    assert lack is not None
    assert says in lack.reason


def test_a_compiler_that_is_named_counts_and_one_that_is_not_there_does_not(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(executable(bare / "mine", "")))
    assert unbuildable("cpu", None, bare) is None
    monkeypatch.setenv("CXX", "/nowhere")
    executable(bare / "g++", "")
    lack = unbuildable("cpu", None, bare)

    assert lack is not None
    assert "CXX names /nowhere, which is not there" in lack.reason


@pytest.mark.parametrize(
    ("there", "chosen"), [(["clang++", "clang"], {"CXX": "clang++", "CC": "clang"}), (["g++", "gcc", "clang++"], {})]
)
def test_engines_are_told_of_a_compiler_they_would_not_look_for(
    bare: Path, there: list[str], chosen: dict[str, str]
) -> None:
    for name in there:
        executable(bare / name, "")
    assert compiler_variables(os.environ) == {name: str(bare / program) for name, program in chosen.items()}
    assert compiler_variables({**os.environ, "CXX": "/x", "CC": "/y"}) == {}


@needs_a_compiler
def test_an_interpreter_without_headers_names_their_package(tmp_path: Path) -> None:
    python = executable(tmp_path / "python", "echo /nowhere/include; echo 3.12")
    lack = unbuildable("cpu", Interpreter("bare", python, (), {}, "configured", {}), tmp_path)

    assert lack is not None
    assert f"Python.h of {python} is not there: install python3.12-dev (Debian, Ubuntu)" in lack.reason


@needs_a_compiler
def test_a_temporary_folder_without_space_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(native_code, "LEAST_TEMPORARY_BYTES", 2**62)
    lack = unbuildable("cpu", own(), tmp_path)

    assert lack is not None
    assert f"the temporary folder {tmp_path} has only" in lack.reason


@needs_a_compiler
def test_a_cache_from_which_nothing_can_be_loaded_is_named(tmp_path: Path) -> None:
    mount = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o noexec none "$0" && exec "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    code = "from pathlib import Path; from methods.catalogue.native_code import unbuildable; import sys\n"
    code += "print(unbuildable('cpu', None, Path(sys.argv[1])).reason)"
    ran = subprocess.run(
        [*mount, sys.executable, "-c", code, str(tmp_path / "cache")],
        cwd=RUNNER.parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{tmp_path} is on a file system mounted noexec" in ran.stdout


@needs_a_compiler
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_a_trial_compiles_and_loads_and_is_not_repeated_until_something_changes(tmp_path: Path, kind: str) -> None:
    program, variable = {"cpu": ("g++", "CXX"), "cuda": ("gcc", "CC")}[kind]
    calls = tmp_path / "calls"
    wrapper = executable(tmp_path / "compiler", f'echo >>{calls}; exec {program} "$@"')
    python, cache = own({variable: str(wrapper)}), tmp_path / "cache"

    assert tried(kind, python, cache) is None
    assert tried(kind, python, cache) is None
    assert len(calls.read_text()) == 1
    assert [path.name for path in (cache / "compiled/own").iterdir()] == [f"trial-{kind}.json"]
    os.utime(wrapper, ns=(1, 1))
    assert tried(kind, python, cache) is None
    assert len(calls.read_text()) == 2


@needs_a_compiler
def test_a_trial_that_fails_has_the_compilers_own_line_and_is_repeated(tmp_path: Path) -> None:
    said = "x.cpp:1:10: fatal error: Python.h: No such file or directory\\ncompilation terminated."
    calls = tmp_path / "calls"
    wrapper = executable(tmp_path / "compiler", f"echo >>{calls}; printf '{said}' >&2; exit 1")
    python, cache = own({"CXX": str(wrapper)}), tmp_path / "cache"
    lack = tried("cpu", python, cache)

    assert lack is not None
    assert "fatal error: Python.h: No such file or directory (install python3-dev" in lack.reason
    assert unbuildable("cpu", python, cache) == lack, "a look says what the last trial found"
    tried("cpu", python, cache)
    assert len(calls.read_text()) == 2, "what is missing may be there now"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "C++ compile error\n\nOutput:\n/tmp/a.cpp:4:10: fatal error: Python.h: No such file or directory\nmore",
            "CppCompileError: C++ compile error: fatal error: Python.h: No such file or directory (install python3-dev"
            " (Debian, Ubuntu) or python3-devel (Fedora))",
        ),
        (
            "C++ compile error\n/usr/bin/ld: cannot find -lgomp\ncollect2: error: ld returned 1 exit status",
            "CppCompileError: C++ compile error: ld: cannot find -lgomp (install g++)",
        ),
        (
            "/home/a.so: failed to map segment from shared object",
            "CppCompileError: /home/a.so: failed to map segment from shared object (its folder seems to be mounted"
            " noexec)",
        ),
        ("shapes differ\nerror: the second line", "CppCompileError: shapes differ"),
    ],
)
def test_a_failure_to_compile_is_told_with_the_compilers_line(text: str, said: str) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import kasoku_failure\n"
        "class CppCompileError(Exception): pass\n"
        "print(kasoku_failure.sentence_of(CppCompileError(sys.argv[2])))"
    )
    ran = subprocess.run([sys.executable, "-I", "-c", code, RUNNER, text], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == said
