"""Which packages each process has in it, looked at from outside: no command loads what it does not need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

import methods
from sessions.disk.records import Loaded, Tokens
from sessions.disk.session_folder import SessionFolder
from tests.sessions.conftest import opened
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, records_of, runner_of

HEAVY = {"textual", "rich", "polars", "numpy", "scipy", "msgspec", "psutil", "pynvml", "tokenizers", "huggingface_hub"}
ENGINES = {"torch", "transformers", "vllm", "sglang", "optimum", "accelerate"}
WORKBENCH = {"tui", "sessions", "probes", "methods", *HEAVY, "jinja2", "safetensors", "platformdirs", "uv"}
OF_THE_START = {"__main__", "_virtualenv", "_distutils_hack", "sitecustomize"}  # by what a venv puts on the path
MODULES_AFTER = """
import json, sys
from tui.command_line import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
sys.stderr.write("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def imported_by(*arguments: str) -> set[str]:
    """The packages in a process after it has run a command."""
    done = subprocess.run([sys.executable, "-c", MODULES_AFTER, *arguments], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("hygiene"))


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["--version"], ["run", "--no-such-option"]])
def test_parsing_imports_nothing_heavy(work: Workplace, arguments: list[str]) -> None:
    found = imported_by(*arguments)
    assert "tui" in found
    assert "sessions" in found, "its table of options is read"
    assert not found & (HEAVY | ENGINES | {"probes"})
    assert found - {"tui", "sessions"} - OF_THE_START <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("arguments", [["methods"], ["methods", "--json"], ["env", "list"]])
def test_listings_of_the_catalogue_import_no_frames_no_screen_and_no_engine(
    work: Workplace, arguments: list[str]
) -> None:
    found = imported_by(*arguments)
    assert "methods" in found
    assert not found & ({"textual", "rich", "polars", "numpy", "scipy", "tokenizers", "huggingface_hub"} | ENGINES)


@pytest.mark.parametrize("arguments", [["sessions", "--json"], ["run", "--requests", "0"], ["show", "none"], ["stop"]])
def test_no_command_imports_the_screens_or_an_engine(work: Workplace, arguments: list[str]) -> None:
    assert not imported_by(*arguments) & ({"textual"} | ENGINES)


def mapped(pid: int) -> set[str]:
    """The packages whose native modules a process has mapped."""
    text = Path(f"/proc/{pid}/maps").read_text()
    return set(re.findall(r"/(?:site|dist)-packages/([A-Za-z0-9_]+)", text))


@pytest.fixture(scope="module")
def at_work(work: Workplace) -> Iterator[SessionFolder]:
    """A session whose runner generates."""
    folder = work.launch(work.method("slow", rate=20.0), max_new_tokens=2_000)
    until(lambda: any(isinstance(record, Tokens) for record in records_of(folder)), "tokens flow")
    yield folder
    folder.ask("stop")
    work.finished(folder)
    assert_nothing_left(folder)


def test_the_conductor_has_neither_engine_nor_screen_in_it(at_work: SessionFolder) -> None:
    found = mapped(conductor_of(at_work).pid)
    assert "msgspec" in found, "this looks at nothing"
    assert not found & (ENGINES | {"textual", "rich"})


def test_the_runner_has_nothing_of_the_workbench_in_it(at_work: SessionFolder) -> None:
    """Though the Python it runs in has all of it installed."""
    runner = runner_of(at_work)
    assert runner is not None
    assert not mapped(runner.pid)
    loaded = next(record for record in records_of(at_work) if isinstance(record, Loaded))
    modules, path = loaded.resolved["modules"], loaded.resolved["path"]
    assert isinstance(modules, list)
    assert isinstance(path, list)
    assert {"kasoku_engine", "kasoku_wire"} <= set(modules)
    assert not set(modules) & WORKBENCH
    assert path[0] == str(Path(methods.__file__).parent / "runner")


def test_the_runner_gets_no_secret_and_nothing_that_leads_to_other_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "MY_PASSWORD", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "PYTHONHOME_X"):
        monkeypatch.setenv(name, "secret-or-path")
    monkeypatch.setenv("LANG_OF_MINE", "kept")
    for work in opened(tmp_path):
        folder = work.launch(work.method("slow", rate=20.0), max_new_tokens=2_000)
        runner = until(partial(runner_of, folder), "the runner is there")
        variables = runner.environ()
        folder.ask("stop")
        work.finished(folder)
        assert "secret-or-path" not in variables.values()
        assert (variables["LANG_OF_MINE"], variables["HF_HUB_OFFLINE"]) == ("kept", "1")
        files = [path for path in folder.path.rglob("*") if path.is_file()]
        assert not [path for path in files if b"secret-or-path" in path.read_bytes()]


def test_the_runner_holds_no_file_of_the_session_but_its_log(at_work: SessionFolder) -> None:
    runner = runner_of(at_work)
    assert runner is not None
    inside = {Path(descriptor.readlink()) for descriptor in Path(f"/proc/{runner.pid}/fd").iterdir()}
    own = {path.relative_to(at_work.path) for path in inside if path.is_relative_to(at_work.path)}
    assert own == {Path("logs/slow-0.log")}
    assert not [connection for connection in psutil.Process(runner.pid).net_connections() if connection.laddr]


def test_no_process_of_a_session_listens(at_work: SessionFolder) -> None:
    conductor = conductor_of(at_work)
    for process in [conductor, *conductor.children(recursive=True)]:
        assert [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN] == []
