"""A job that is no measurement: its progress, its result or a sentence, and nothing of it left behind."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from methods.base.interpreter import Interpreter
from methods.base.progress import Progress
from methods.jobs.runner_job import JobError, run_job
from tests.sessions.processes import processes_of, until

LEAVES_A_DAEMON = """
if os.fork() == 0:
    os.setsid()
    open("daemon", "w").write(str(os.getpid()))
    time.sleep(1000)
while not (os.path.exists("daemon") and os.path.getsize("daemon")): time.sleep(0.005)
"""
RESULT = 'tell(k="result", result={"answer": 42}); tell(k="done", t=1)'


def interpreter(folder: Path, code: str) -> Interpreter:
    """A "Python" that does `code` in the place of the runner; `tell` writes on the wire."""
    script = folder / "python"
    script.write_text(
        f"#!{sys.executable}\nimport json, os, signal, sys, time\nos.chdir({str(folder)!r})\n"
        "def tell(**message): os.write(int(sys.argv[-1]), json.dumps(message).encode() + b'\\n')\n" + code
    )
    script.chmod(0o700)
    return Interpreter("plain", script, (), {}, "own", {})


def job(folder: Path, code: str) -> tuple[dict[str, object], list[Progress]]:
    heard: list[Progress] = []
    result = run_job(interpreter(folder, code), {"job": "convert"}, folder / "job.log", heard.append)
    return result, heard


def test_progress_and_the_result_are_taken_from_the_wire(tmp_path: Path) -> None:
    code = 'tell(k="progress", phase="convert", detail="weights", done=1, total=2, unit="files")\n'
    noise = "os.write(int(sys.argv[-1]), b'[' * 100_000 + b'\\n\\xff\\n' + b'x' * 3_000_000 + b'\\n')\n"
    result, heard = job(tmp_path, code + noise + RESULT)
    assert result == {"answer": 42}
    assert Progress("convert", "weights", 1, 2, "files") in heard


def test_what_a_job_left_running_is_ended_with_it(tmp_path: Path) -> None:
    result, _ = job(tmp_path, LEAVES_A_DAEMON + RESULT)
    assert result == {"answer": 42}
    assert (tmp_path / "daemon").read_text()
    until(lambda: not processes_of(tmp_path), "nothing is left", 10)


def test_stopping_a_job_ends_all_that_it_started(tmp_path: Path) -> None:
    def stop(_: Progress) -> None:
        if (tmp_path / "daemon").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(
            interpreter(tmp_path, LEAVES_A_DAEMON + "time.sleep(1000)"), {"job": "convert"}, tmp_path / "job.log", stop
        )
    until(lambda: not processes_of(tmp_path), "nothing is left", 10)


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("sys.exit(3)", "exited with status 3 and without a result"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed, most likely because the machine ran out of memory"),
        (f"os.kill(os.getpid(), {signal.SIGTERM.value})", "was killed by signal 15 (SIGTERM) and without a result"),
        ('tell(k="error", message="no such model"); sys.exit(1)', "no such model"),
    ],
)
def test_a_job_without_a_result_is_a_sentence_and_the_end_of_its_log(tmp_path: Path, code: str, sentence: str) -> None:
    with pytest.raises(JobError) as caught:
        job(tmp_path, "print('in the log', flush=True)\n" + code)
    assert sentence in str(caught.value)
    assert caught.value.log_tail == "in the log"
    assert (tmp_path / "job.log").stat().st_mode & 0o777 == 0o600
