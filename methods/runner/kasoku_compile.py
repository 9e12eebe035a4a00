"""The job `compile`: compile and load a tiny library, as torch's compilers do with what they generate."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import kasoku_failure

COMPILE_S = 120
SOURCES = {
    "C": ("trial.c", "#include <Python.h>\nint kasoku_trial(void) { return 1; }\n", ()),
    "C++": (
        "trial.cpp",
        '#include <Python.h>\n#include <omp.h>\nextern "C" int kasoku_trial() { return omp_get_max_threads(); }\n',
        ("-fopenmp",),
    ),
}


def run(job: dict, wire: object) -> None:
    """The result's `fault` is half a sentence, empty where the library was loaded."""
    wire.result({"fault": attempt(job["language"], job["compiler"], job["folder"])})


def attempt(language: str, compiler: str, folder: str) -> str:
    name, source, flags = SOURCES[language]
    place = Path(tempfile.mkdtemp(prefix="trial-", dir=folder))
    try:
        (place / name).write_text(source, encoding="ascii")
        library = place / "trial.so"
        include = "-I" + headers()
        command = [compiler, str(place / name), "-shared", "-fPIC", *flags, include, "-o", str(library)]
        made = subprocess.run(
            command,
            check=False,
            capture_output=True,
            errors="replace",
            timeout=COMPILE_S,
            env={**os.environ, "LC_ALL": "C"},  # what is wrong is found by its English words
        )
        if made.returncode != 0:
            said = kasoku_failure.compilers_line(made.stderr) or made.stderr.strip().rpartition("\n")[2]
            return "%s: %s" % (compiler, said.rstrip(".") or "exit status %d" % made.returncode)
        if ctypes.CDLL(str(library)).kasoku_trial() < 1:
            return "%s made a library that does not work" % compiler
    except subprocess.TimeoutExpired:
        return "%s did not end within %d s" % (compiler, COMPILE_S)
    except OSError as error:
        return kasoku_failure.with_hint(str(error))
    finally:
        shutil.rmtree(str(place), ignore_errors=True)
    return ""


def headers() -> str:
    """The folder of Python.h, by the scheme that torch and Triton take."""
    schemes = sysconfig.get_scheme_names()
    return sysconfig.get_path("include", "posix_prefix" if "posix_prefix" in schemes else None)
