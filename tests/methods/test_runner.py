"""The runner as a process: its wire, its isolation, its failures; with engines of a user, written in plain Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.methods.runner_process import Outcome, measure_job, run, runner

PYTHON = Path(sys.executable)
REPOSITORY = Path(__file__).parents[2]


def user_engine(folder: Path, body: str) -> str:
    """Write an engine file whose class has `body`; its path. Without a `load`, it loads nothing."""
    text = "from __future__ import annotations\nimport os, sys, time\nfrom kasoku_engine import Engine\n\n\n"
    text += "class Mine(Engine):\n"
    if "def load(" not in body:
        text += "    def load(self, job):\n        self.options = job['options']\n        return {}\n\n"
    text += textwrap.indent(textwrap.dedent(body), "    ") + "\n\nENGINE = Mine\n"
    file = folder / "mine.py"
    file.write_text(text)
    return str(file)


COUNTS_TO_FOUR = """
def generate(self, request, emit):
    for number in range(request.max_new_tokens):
        emit([request.number * 100 + number])
"""


def python39() -> Path | None:
    """A working Python 3.9, if this machine has one."""
    candidates = [shutil.which("python3.9"), *sorted(Path.home().glob(".pyenv/versions/3.9*/bin/python3.9"))]
    for candidate in candidates:
        if candidate is not None:
            try:
                answer = subprocess.run([str(candidate), "--version"], capture_output=True, timeout=30, check=False)
            except OSError:
                continue
            if answer.stdout.startswith(b"Python 3.9"):
                return Path(candidate)
    return None


def test_a_run_says_everything_in_order(tmp_path: Path) -> None:
    outcome = run(PYTHON, measure_job(user_engine(tmp_path, COUNTS_TO_FOUR)), tmp_path)

    assert outcome.status == 0, outcome.log
    kinds = [message["k"] for message in outcome.messages if message["k"] != "tokens"]
    requests = ["request", "request_end"]
    assert kinds == [
        *("hello", "phase", "phase", "loaded", "phase"),
        *(*requests, "phase", *requests, *requests),
        *("phase", "memory", "evidence", "phase", "done"),
    ]
    assert [message["phase"] for message in outcome.of("phase")] == [
        *("import", "load", "warmup", "timed", "evidence", "close")
    ]
    assert [message["warmup"] for message in outcome.of("request")] == [True, False, False]
    assert outcome.tokens(2)[1] == [200, 201, 202, 203]
    assert {message["finish"] for message in outcome.of("request_end")} == {"length"}


def test_every_time_lies_within_its_request(tmp_path: Path) -> None:
    outcome = run(PYTHON, measure_job(user_engine(tmp_path, COUNTS_TO_FOUR)), tmp_path)

    for begin, end in zip(outcome.of("request"), outcome.of("request_end"), strict=True):
        times, _ = outcome.tokens(int(str(begin["request"])))
        moments = [begin["t"], *times, end["t"]]
        assert moments == sorted(moments)  # type: ignore[type-var]


def test_a_response_shorter_than_asked_ended_at_a_stop_token(tmp_path: Path) -> None:
    engine = user_engine(tmp_path, "def generate(self, request, emit):\n    emit([1, 2])\n")

    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert [(end["finish"], end["output_tokens"]) for end in outcome.of("request_end")] == [("eos", 2)] * 3


def test_a_reader_that_does_not_read_neither_stops_the_requests_nor_loses_a_token(tmp_path: Path) -> None:
    over = tmp_path / "over"
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            number, until = 0, time.perf_counter() + 0.3
            while time.perf_counter() < until or number < 25_000:
                emit([number])
                number += 1
            self.made = getattr(self, "made", []) + [number]

        def evidence(self):
            return {"made": self.made}

        def close(self):
            open(self.options["over"], "w").close()
        """,
    )
    job = measure_job(engine, options={"over": str(over)})
    with runner(PYTHON, job, tmp_path) as running:
        deadline = time.monotonic() + 60
        while not over.exists():  # every request is over before a single byte is read
            assert time.monotonic() < deadline, running.log.read_text()
            assert running.process.poll() is None, running.log.read_text()
        said = running.read_to_the_end()
        status = running.process.wait(60)
    outcome = Outcome(tuple(json.loads(line) for line in said.splitlines()), status, "")

    assert status == 0
    assert len(said) > 1_000_000  # far more than any pipe holds
    made = outcome.one("evidence")["evidence"]["made"]  # type: ignore[index]
    for request, count in enumerate(made):
        times, ids = outcome.tokens(request)
        assert ids == list(range(count))
        assert len(times) == count
    for begin, end in zip(outcome.of("request"), outcome.of("request_end"), strict=True):
        assert 0.3 <= (int(str(end["t"])) - int(str(begin["t"]))) / 1e9 < 3


def test_tokens_are_sent_in_few_lines(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            until = time.perf_counter() + 0.3
            while time.perf_counter() < until:
                emit([7])
        """,
    )
    outcome = run(PYTHON, measure_job(engine), tmp_path)

    for request in range(3):
        lines = [line for line in outcome.of("tokens") if line["request"] == request]
        assert 1 < len(lines) <= 0.3 / 0.05 + 1


MARKS = """
def generate(self, request, emit):
    made, asked = [], []
    def fetch(count):
        asked.append(count)
        if self.options.get("fails_after", 9) < len(asked):
            raise RuntimeError("the device is gone")
        first = sum(asked) - count
        return made[first : first + count]
    began, seconds = time.perf_counter(), 0.0
    while seconds < 0.3 or (len(asked) < 2 and seconds < 20):  # on a busy machine a second fetch may take longer
        made.append(len(made))
        emit.mark(fetch)
        seconds = time.perf_counter() - began
    emit([-1])
    self.asked = len(asked)
    self.made = len(made)
    self.seconds = seconds

def evidence(self):
    return {"asked": self.asked, "made": self.made, "seconds": self.seconds}
"""


def test_ids_of_marked_tokens_are_fetched_once_a_line(tmp_path: Path) -> None:
    outcome = run(PYTHON, measure_job(user_engine(tmp_path, MARKS)), tmp_path)

    assert outcome.status == 0, outcome.log
    evidence = outcome.one("evidence")["evidence"]
    times, ids = outcome.tokens(2)
    assert ids == [*range(evidence["made"]), -1]  # type: ignore[index]
    assert times == sorted(times)
    assert len(set(times)) > len(times) / 2
    assert 1 < evidence["asked"] <= evidence["seconds"] / 0.05 + 1  # type: ignore[index]


def test_tokens_whose_ids_cannot_be_fetched_are_not_reported(tmp_path: Path) -> None:
    job = measure_job(user_engine(tmp_path, MARKS), options={"fails_after": 1})
    outcome = run(PYTHON, job, tmp_path)

    *_, end = outcome.of("request_end")  # where the machine is slow, the device goes in a later one
    _, ids = outcome.tokens(int(str(end["request"])))
    assert end["finish"] == "error"
    assert end["output_tokens"] == len(ids) > 0
    assert ids == list(range(len(ids)))
    assert "the device is gone" in str(outcome.one("error")["message"])


def test_a_runner_whose_reader_is_gone_ends_quietly(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            while True:
                emit([7])
        """,
    )
    with runner(PYTHON, measure_job(engine), tmp_path) as running:
        assert os.read(running.wire, 10)
        os.close(running.wire)
        running.wire = -1
        assert running.process.wait(60) == 3
        assert running.log.read_text() == ""


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        ("MemoryError()", "oom"),
        ("RuntimeError('[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can\\'t allocate memory')", "oom"),
        ("type('OutOfMemoryError', (RuntimeError,), {})('CUDA out of memory. Tried to allocate 2 GiB')", "oom"),
        ("ValueError('first line\\nsecond line')", "failed"),
        ("SystemExit('gives up')", "failed"),
        ("__import__('kasoku_engine').UnsupportedError('This cannot be done here.')", "unsupported"),
    ],
)
def test_an_exception_becomes_one_error_line(tmp_path: Path, raised: str, kind: str) -> None:
    engine = user_engine(tmp_path, f"def generate(self, request, emit):\n    emit([1])\n    raise {raised}\n")

    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert outcome.status == 1
    error = outcome.one("error")
    assert error["kind"] == kind
    assert "\n" not in str(error["message"])
    assert "in generate" in str(error["detail"])
    assert outcome.one("request_end")["finish"] == "error"
    assert outcome.messages[-1] == error


def test_an_engine_that_generates_nothing_has_failed(tmp_path: Path) -> None:
    outcome = run(PYTHON, measure_job(user_engine(tmp_path, "def generate(self, request, emit): pass")), tmp_path)

    assert outcome.status == 1
    assert "generated nothing" in str(outcome.one("error")["message"])


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    engine = user_engine(tmp_path, "def import_packages(self, job):\n    import no_such_package_at_all\n")

    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert outcome.status == 1
    assert "no_such_package_at_all" in str(outcome.one("error")["message"])


@pytest.mark.parametrize("engine", ["no-such-engine", "/no/such/engine.py", "../kasoku_wire"])
def test_an_engine_that_is_not_there_is_unsupported(tmp_path: Path, engine: str) -> None:
    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert outcome.status == 1
    error = outcome.one("error")
    assert error["kind"] == "unsupported"
    assert engine in str(error["message"])


def test_a_crash_leaves_its_stack_in_the_log(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path, "def generate(self, request, emit):\n    emit([1])\n    __import__('ctypes').string_at(0)\n"
    )
    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert outcome.status < 0
    assert "Segmentation fault" in outcome.log
    assert "in generate" in outcome.log
    assert not outcome.of("error")


def test_a_job_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    unreadable = run(PYTHON, {"schema": 2, "job": "measure"}, tmp_path)
    unknown = run(PYTHON, {"job": "dance"}, tmp_path)

    assert unreadable.status == 2
    assert "schema 1" in unreadable.log
    assert unknown.status == 1
    assert unknown.one("error")["kind"] == "unsupported"


def test_what_an_engine_prints_is_in_the_log_and_not_on_the_wire(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            print("through Python")
            os.write(1, b"through the descriptor")
            emit([1])
        """,
    )
    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert outcome.status == 0
    assert "through Python" in outcome.log
    assert "through the descriptor" in outcome.log


def test_an_engines_children_do_not_inherit_the_wire(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            emit([1])

        def evidence(self):
            import subprocess
            command = ["ls", "-l", "/proc/self/fd"]
            seen = subprocess.run(command, close_fds=False, stdout=subprocess.PIPE).stdout.decode()
            return {"wire": os.readlink("/proc/self/fd/" + sys.argv[2]), "seen": seen}
        """,
    )
    evidence = run(PYTHON, measure_job(engine), tmp_path).one("evidence")["evidence"]

    assert evidence["wire"].startswith("pipe:")  # type: ignore[index]
    assert "pipe:" in evidence["seen"]  # type: ignore[index]
    assert evidence["wire"] not in evidence["seen"]  # type: ignore[index]


def test_an_engine_may_spawn(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            import math, multiprocessing
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                emit([int(pool.apply(math.sqrt, (49.0,)))])
        """,
    )
    outcome = run(PYTHON, measure_job(engine), tmp_path)

    assert outcome.status == 0, outcome.log
    assert outcome.tokens(1)[1] == [7]
    assert len(outcome.of("hello")) == 1


def test_the_environment_is_offline_and_holds_no_token(tmp_path: Path) -> None:
    engine = user_engine(
        tmp_path,
        """
        def generate(self, request, emit):
            emit([1])

        def evidence(self):
            return dict(os.environ)
        """,
    )
    environ = {"HF_TOKEN": "hf_x", "HUGGING_FACE_HUB_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
    outcome = run(PYTHON, measure_job(engine), tmp_path, environ)

    evidence = outcome.one("evidence")["evidence"]
    assert evidence["HF_HUB_OFFLINE"] == "1"  # type: ignore[index]
    assert not [name for name, value in evidence.items() if value == "hf_x"]  # type: ignore[attr-defined]


SEES = """
def generate(self, request, emit):
    emit([1])

def evidence(self):
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return {"modules": sorted(sys.modules), "files": sorted(filter(None, files)), "path": sys.path}
"""


def test_the_runner_sees_none_of_the_workbench(tmp_path: Path) -> None:
    environ = {"PYTHONPATH": str(REPOSITORY)}
    evidence = run(PYTHON, measure_job(user_engine(tmp_path, SEES)), tmp_path, environ).one("evidence")["evidence"]
    assert isinstance(evidence, dict)

    own = REPOSITORY / "methods" / "runner"
    top_level = {name.partition(".")[0] for name in evidence["modules"]}
    assert "kasoku_measure" in top_level
    workbench = {"tui", "probes", "sessions", "methods", "textual", "rich", "polars", "msgspec", "numpy", "scipy"}
    assert not top_level & (workbench | {"pynvml", "psutil", "tokenizers", "huggingface_hub", "jinja2", "safetensors"})
    ours = [Path(file) for file in evidence["files"] if Path(file).is_relative_to(REPOSITORY / "methods")]
    assert ours
    assert all(file.is_relative_to(own) and file.name.startswith(("kasoku_", "__main__")) for file in ours)


def test_only_the_runners_own_folder_is_put_on_the_path(tmp_path: Path) -> None:
    bare_python = Path(sys.base_prefix) / "bin" / "python3"
    environ = {"PYTHONPATH": str(REPOSITORY)}
    job = measure_job(user_engine(tmp_path, SEES), paths=[str(tmp_path)])
    evidence = run(bare_python, job, tmp_path, environ).one("evidence")["evidence"]
    assert isinstance(evidence, dict)

    assert evidence["path"][:2] == [str(REPOSITORY / "methods" / "runner"), str(tmp_path)]
    assert not [path for path in evidence["path"][2:] if Path(path).is_relative_to(REPOSITORY)]


def test_the_engine_in_the_page_on_adding_a_method_runs(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "adding-a-method.md").read_text()
    file = tmp_path / "countdown.py"
    file.write_text(page.partition("```python\n")[2].partition("```")[0])

    outcome = run(PYTHON, measure_job(str(file), options={"most": 1}), tmp_path)

    assert outcome.status == 0, outcome.log
    assert outcome.tokens(1)[1] == [313, 312, 311, 310]
    assert outcome.one("evidence")["evidence"]["missing"]  # type: ignore[index]


def test_describe_tells_versions_and_what_really_imports(tmp_path: Path) -> None:
    (tmp_path / "broken_on_import.py").write_text("raise RuntimeError('its library is missing')\n")
    job = {
        "job": "describe",
        "paths": [str(tmp_path)],
        "distributions": ["pytest", "no-such-distribution"],
        "imports": ["json", "no_such_module", "broken_on_import"],
    }
    result = run(PYTHON, job, tmp_path).one("result")["result"]
    assert isinstance(result, dict)

    assert result["python"] == ".".join(map(str, sys.version_info[:3]))
    assert result["versions"] == {"pytest": pytest.__version__, "no-such-distribution": None}
    assert result["imports"]["json"] is None
    assert "no_such_module" in result["imports"]["no_such_module"]
    assert result["imports"]["broken_on_import"] == "RuntimeError: its library is missing"


def test_the_runner_works_in_python_3_9(tmp_path: Path) -> None:
    python = python39()
    if python is None:
        pytest.skip("this machine has no Python 3.9")

    measured = run(python, measure_job(user_engine(tmp_path, COUNTS_TO_FOUR)), tmp_path)
    described = run(python, {"job": "describe", "distributions": ["pip"], "imports": ["json"]}, tmp_path)
    failed = run(python, measure_job("no-such-engine"), tmp_path)

    assert measured.status == 0, measured.log
    assert str(measured.one("hello")["python"]).startswith("3.9.")
    assert measured.tokens(2)[1] == [200, 201, 202, 203]
    assert described.status == 0, described.log
    assert failed.one("error")["kind"] == "unsupported"


def test_every_file_of_the_runner_is_python_3_9(tmp_path: Path) -> None:
    python = python39()
    if python is None:
        pytest.skip("this machine has no Python 3.9")
    files = sorted(map(str, (REPOSITORY / "methods" / "runner").rglob("*.py")))
    check = "import ast, sys; [ast.parse(open(file, encoding='utf-8').read(), file) for file in sys.argv[1:]]"

    answer = subprocess.run([str(python), "-I", "-c", check, *files], capture_output=True, check=False, timeout=60)

    assert answer.returncode == 0, answer.stderr.decode()
