"""Whether code can be compiled and loaded here for a method, before anything is measured.

On the CPU torch compiles C++, for a GPU Triton compiles C; both against Python's headers, by way of the temporary
folder, into a cache whose files are then loaded. `unbuildable` looks, in a millisecond; `tried` compiles and loads a
tiny library in the method's interpreter, and keeps the result as long as what it depends on stays the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from methods.base.bounded_read import read_regular
from methods.base.home import HomeError, private_folder, write_atomically
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import silent
from methods.catalogue.compiler_paths import compiled_folder, is_taken
from methods.jobs.runner_job import JobError, run_job

LEAST_TEMPORARY_BYTES: Final = 32_000_000
ASK_S: Final = 30.0
HEADER: Final = "Python.h"
LOOKS_IN: Final = ("PATH", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Language:
    """What is compiled: `variable` names a compiler, otherwise the first of `programs` is taken that is there.

    `packages` have the compiler, on Debian and on Fedora.
    """

    name: str
    variable: str
    programs: tuple[str, ...]
    packages: tuple[str, str]


CPP: Final = Language("C++", "CXX", ("g++", "clang++", "c++"), ("g++", "gcc-c++"))
C: Final = Language("C", "CC", ("gcc", "clang", "cc"), ("gcc", "gcc"))
LANGUAGES: Final[Mapping[str, Language]] = {"cpu": CPP, "cuda": C}  # by kind of device


def compiler_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Names for the compilers that are there and that engines, which look for the first of ours only, would miss."""
    chosen = {}
    for language in LANGUAGES.values():
        found = _compiler(language, environ)
        if found and not environ.get(language.variable) and Path(found).name != language.programs[0]:
            chosen[language.variable] = found
    return chosen


def unbuildable(kind: str, interpreter: Interpreter | None, cache: Path) -> Unavailable | None:
    """Why nothing can be compiled for a device of this kind, as far as a look tells; None if nothing speaks against it.

    Without an interpreter, what every interpreter would lack. Starts no process unless Python.h is not where it is
    expected.
    """
    if (fault := _surroundings(kind, interpreter, cache)) or interpreter is None:
        return Unavailable(fault, "") if fault else None
    known = _known(kind, interpreter, cache)
    if known is not None:
        return Unavailable(known, "") if known else None
    if _header(interpreter.python) is None and (said := _header_told(interpreter.python)) is not None:
        return Unavailable(f"It compiles code, but {HEADER} of {interpreter.python} is not there: {said}.", "")
    return None


def tried(kind: str, interpreter: Interpreter, cache: Path) -> Unavailable | None:
    """Why a tiny library cannot be compiled and loaded for a device of this kind in the interpreter; None if it can."""
    if fault := _surroundings(kind, interpreter, cache):
        return Unavailable(fault, "")
    fault = "" if _known(kind, interpreter, cache) == "" else _try(kind, interpreter, cache)
    return Unavailable(fault, "") if fault else None


def _surroundings(kind: str, interpreter: Interpreter | None, cache: Path) -> str:
    """What is wrong with the compiler's place, the temporary folder or the cache; "" if nothing is."""
    language, environ = LANGUAGES[kind], _environ(interpreter)
    if not _compiler(language, environ):
        lack = f"It compiles code but finds no {language.name} compiler"
        if named := environ.get(language.variable):
            return f"{lack}: {language.variable} names {named}, which is not there; name one that is, or unset it."
        debian, fedora = language.packages
        programs = " or ".join(language.programs[:2])
        return f"{lack} ({programs}) on the PATH: install {debian} (Debian, Ubuntu) or {fedora} (Fedora)."
    folder = _existing(compiled_folder(cache, interpreter.environment if interpreter else ""))
    awkward = [place for place in (folder, interpreter and interpreter.python.parent) if place and not is_taken(place)]
    if kind == "cpu" and awkward:
        return (
            f"It compiles code, but torch's compiler does not take the path {awkward[0]}: use one without spaces,"
            " quotes, commas and colons."
        )
    temporary = Path(environ.get("TMPDIR") or tempfile.gettempdir())
    with suppress(OSError):
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return (
                f"It compiles code, but {folder} is on a file system mounted noexec, where nothing compiled can be"
                " loaded: set KASOKU_HOME to a folder on another, or remount it."
            )
    with suppress(OSError):
        disk = os.statvfs(temporary)
        free = disk.f_bavail * disk.f_frsize
        if free < LEAST_TEMPORARY_BYTES:
            return (
                f"It compiles code, but the temporary folder {temporary} has only {free / 1e6:.1f} MB free: free some"
                " space there, or set TMPDIR to another folder."
            )
    return ""


def _try(kind: str, interpreter: Interpreter, cache: Path) -> str:
    """Compile and load; the fault as a sentence, "" if there is none, which is kept."""
    language, environ = LANGUAGES[kind], _environ(interpreter)
    key = _key(kind, interpreter, cache)
    try:
        folder = private_folder(compiled_folder(cache, interpreter.environment))
        job = {"job": "compile", "language": language.name, "compiler": _compiler(language, environ)}
        log = folder / f"trial-{os.getpid()}.log"
        try:
            result = run_job(interpreter, {**job, "folder": str(folder)}, log, silent)
        finally:
            for file in (log, log.with_suffix(".job.json")):
                file.unlink(missing_ok=True)
        said = str(result.get("fault") or "")
        fault = f"It compiles code, but a trial failed: {said}." if said else ""
        kept = json.dumps({"key": key, "fault": fault}).encode()
        write_atomically(_record(kind, interpreter, cache), kept)
    except JobError as error:
        return f"It compiles code, but a trial failed: {error}"
    except HomeError as error:
        return str(error)
    return fault


def _known(kind: str, interpreter: Interpreter, cache: Path) -> str | None:
    """The fault that an earlier trial found, "" if it found none; None if there was none, or things have changed."""
    try:
        record = json.loads(read_regular(_record(kind, interpreter, cache)).decode())
        fault = record["fault"] if record["key"] == _key(kind, interpreter, cache) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return fault if isinstance(fault, str) else None


def _record(kind: str, interpreter: Interpreter, cache: Path) -> Path:
    return compiled_folder(cache, interpreter.environment) / f"trial-{kind}.json"


def _key(kind: str, interpreter: Interpreter, cache: Path) -> str:
    """A digest of what a trial's result depends on."""
    environ = _environ(interpreter)
    files = (_compiler(LANGUAGES[kind], environ), interpreter.python, _header(interpreter.python))
    told = [[_state(file) for file in files], [environ.get(name) for name in LOOKS_IN]]
    told.append([str(cache), _device(_existing(compiled_folder(cache, interpreter.environment)))])
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _state(file: str | Path | None) -> list[str | int]:
    try:
        real = os.path.realpath(file or "")
        seen = Path(real).stat()
    except OSError:
        return []
    return [real, seen.st_size, seen.st_mtime_ns]


def _device(folder: Path) -> int:
    try:
        return folder.stat().st_dev
    except OSError:
        return 0


def _environ(interpreter: Interpreter | None) -> dict[str, str]:
    """The variables that decide in a runner, as far as compilers go."""
    return {**os.environ, **(interpreter.variables if interpreter else {})}


def _compiler(language: Language, environ: Mapping[str, str]) -> str:
    """The path of the compiler that is taken; "" if there is none."""
    named = environ.get(language.variable)
    programs = (named,) if named else language.programs
    return next((found for name in programs if (found := shutil.which(name, path=environ.get("PATH")))), "")


def _existing(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next((each for each in (folder, *folder.parents) if os.path.isdir(each)), folder)


def _header(python: Path) -> Path | None:
    """Python.h where it belongs to the interpreter, without starting it."""
    real = Path(os.path.realpath(python))
    version = re.search(r"\d\.\d+t?$", real.name)
    folders = real.parent.parent.glob(f"include/python{version.group() if version else '3'}*")
    return next((folder / HEADER for folder in sorted(folders) if os.path.isfile(folder / HEADER)), None)


def _header_told(python: Path) -> str | None:
    """What to install if the interpreter itself, asked for its headers, has none; None if it has, or does not say."""
    code = "import sys, sysconfig; print(sysconfig.get_path('include')); print('%d.%d' % sys.version_info[:2])"
    try:
        said = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, check=True, timeout=ASK_S).stdout
        folder, version = said.decode().splitlines()[:2]
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if os.path.isfile(os.path.join(folder, HEADER)):  # noqa: PTH118
        return None
    return f"install python{version}-dev (Debian, Ubuntu) or python{version}-devel (Fedora)"
