"""Code that runs beside a loaded engine, in the Python of its environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping

from methods.base.interpreter import Interpreter
from tests.methods.runner_process import RUNNER

LOADED = """
import json, sys
sys.path.insert(0, {runner!r})
import kasoku_engine, numpy
job = json.loads({job!r})
engine = kasoku_engine.take_engine(job["engine"])
engine.import_packages(job)
engine.load(job)
{code}
"""


def in_the_engine(interpreter: Interpreter, job: Mapping[str, object], code: str) -> object:
    """What `code` prints last, as JSON; it has the loaded `engine`, `json` and `numpy`."""
    script = LOADED.format(runner=str(RUNNER), job=json.dumps(job), code=code)
    answer = subprocess.run(
        [str(interpreter.python), "-I", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **interpreter.variables},
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])
