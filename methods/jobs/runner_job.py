"""Have a runner do one job other than a measurement (convert, synthesize, describe…) and wait for its result."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import methods
from methods.base.home import write_atomically
from methods.base.interpreter import Interpreter
from methods.base.log_tail import log_tail
from methods.base.progress import Progress, Report
from methods.base.secret_variables import without_secrets
from methods.base.warded_process import ProcessEnd, WardedProcess

RUNNER = Path(methods.__file__).parent / "runner"
LONGEST_LINE_BYTES = 1 << 20
# A runner gets no secret, and nothing that would change which packages its Python finds.
KEPT_FROM_RUNNERS = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class JobError(Exception):
    """The job failed: one sentence, and the last lines of the runner's log."""

    def __init__(self, sentence: str, log_tail: str = "") -> None:
        super().__init__(sentence)
        self.log_tail = log_tail


def run_job(interpreter: Interpreter, job: Mapping[str, object], log: Path, report: Report) -> dict[str, object]:
    """Run `job` (without `schema` and `paths`, which are added here) and return its result.

    The runner's output goes to `log`, the job is kept beside it. `report` gets its progress, and is called again with
    the last of it at least every half second. Raises JobError; when `report` raises, the runner is killed first.
    """
    if not os.access(interpreter.python, os.X_OK):
        raise JobError(f"The Python {interpreter.python} of the environment {interpreter.environment} cannot be run.")
    job_file = log.with_suffix(".job.json")
    write_atomically(job_file, json.dumps({"schema": 1, "paths": list(interpreter.paths), **job}).encode())
    write_atomically(log, b"")
    inherited = without_secrets(os.environ).items()
    environ = {name: value for name, value in inherited if name not in KEPT_FROM_RUNNERS}
    environ.update(interpreter.variables)
    latest = Progress(str(job["job"]), f"starting the Python of the environment {interpreter.environment}")
    report(latest)

    result: dict[str, object] | None = None
    fault: str | None = None
    command = [str(interpreter.python), "-I", str(RUNNER), str(job_file), WardedProcess.WIRE]
    with closing(WardedProcess(command, log, environ, log.parent, LONGEST_LINE_BYTES)) as process:
        for line in process.lines_to_the_end():
            match _message(line):
                case {"k": "progress", "phase": str(phase), "detail": str(detail), **rest}:
                    latest = Progress(
                        phase, detail, _count(rest.get("done")), _count(rest.get("total")), str(rest.get("unit", ""))
                    )
                case {"k": "result", "result": dict(found)}:
                    result = found
                case {"k": "error", "message": message}:
                    fault = str(message)
                case _:
                    pass
            report(latest)
    end = process.end or ProcessEnd()
    if end.exit == 0 and fault is None and result is not None:
        return result
    raise JobError(fault or _without_result(end, job, interpreter), "\n".join(log_tail(log)))


def _message(line: bytes | None) -> object:
    if line is None:
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _without_result(end: ProcessEnd, job: Mapping[str, object], interpreter: Interpreter) -> str:
    what = f"The job {job['job']!r} in the environment {interpreter.environment}"
    if end.signal == signal.SIGKILL:
        return f"{what} was killed, most likely because the machine ran out of memory."
    return f"{what} {end.sentence()} and without a result."
