"""The job `describe`: which Python this is, which distributions it has, and which modules really import.

Job: {"schema": 1, "job": "describe", "distributions": [names], "imports": [modules]}.
Result: {"python": "3.11.7", "implementation": "cpython", "platform": "linux-x86_64",
         "versions": {distribution: version or null},
         "imports": {module: null, or the sentence that says why it does not import}}.
"""

from __future__ import annotations

import platform
import sys
import sysconfig


def version_of(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def fault_of_importing(module: str) -> str | None:
    """None if the module imports; a broken native library raises far more than ImportError."""
    import importlib

    import kasoku_failure

    try:
        importlib.import_module(module)
    except Exception as error:
        return kasoku_failure.sentence_of(error)
    return None


def run(job: dict, wire: object) -> None:
    wire.result(
        {
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
            "platform": sysconfig.get_platform(),
            "versions": {name: version_of(name) for name in job.get("distributions", ())},
            "imports": {name: fault_of_importing(name) for name in job.get("imports", ())},
        }
    )
