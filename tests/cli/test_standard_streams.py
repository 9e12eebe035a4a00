"""Standard streams that are closed, full, or lack the signs that Kasoku prints."""

from __future__ import annotations

import codecs
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessions.disk.session_folder import SessionFolder
from tests.sessions.conftest import opened
from tests.sessions.processes import until
from tests.sessions.workplace import KASOKU, Workplace, conductor_of, make_model, runs_of
from tui.print.output_encoding import DRAWN, PRINTED

EACH_IN_TURN = """
import sys
from tui.command_line import main
for line in sys.argv[1:]:
    assert main(line.split()) == 0, line
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("streams")):
        work.method("one")
        work.run("one")
        yield work


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`$k` is the command."""
    environment = {**os.environ, "k": str(KASOKU), **variables}
    return subprocess.run(
        ["/bin/sh", "-c", line], capture_output=True, text=True, check=False, env=environment, timeout=120
    )


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("$k <&-", 2, "The workbench needs a terminal"),
        ("$k >&-", 2, "The workbench needs a terminal"),
        ("$k run --prompt - <&-", 2, "[Tt]he prompt"),
        ("$k sessions >&-", 0, ""),
        ("$k sessions <&- >&- 2>&-", 0, ""),
        ("$k sessions --json 2>&-", 0, ""),
        ("$k show nothing 2>&-", 2, ""),
    ],
)
def test_a_closed_stream_is_an_empty_one(work: Workplace, line: str, code: int, sentence: str) -> None:
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert (sentence == "") == (done.stderr == ""), done.stderr
    assert "Kasoku itself failed" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_a_session_begun_with_closed_streams_holds_its_lock(work: Workplace, closed: str) -> None:
    work.method("slow", rate=50.0)
    before = {folder.id for folder in work.sessions()}
    shell(f"$k {' '.join(work.options('slow', max_new_tokens=1000))} --detach {closed}")
    (folder,) = [folder for folder in work.sessions() if folder.id not in before]
    conductor = conductor_of(folder)
    try:
        assert folder.is_live()
        assert "running already" in work.command("resume", folder.id).err
        for number in range(3):
            held = Path(f"/proc/{conductor.pid}/fd/{number}").readlink()
            assert held in (Path(os.devnull), folder.path / "conductor.log"), "the lock is none of the three"
    finally:
        folder.ask("stop")
        work.finished(folder)


def test_a_session_begun_with_ignored_signals_of_its_children_runs(work: Workplace, tmp_path: Path) -> None:
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    done = shell(f"python3 -c '{ignoring}' $k {' '.join(work.options('one'))}")
    assert done.returncode == 0, done.stderr
    newest: SessionFolder = work.sessions()[-1]
    assert [run["status"] for run in runs_of(newest)] == ["ok"]


@pytest.mark.parametrize("command", ["sessions", "methods", "show last", "compare last --json", "--help", "--version"])
def test_a_full_disk_behind_stdout_is_a_sentence(work: Workplace, command: str) -> None:
    done = shell(f"$k {command} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "kasoku: Kasoku could not go on: no space left on device.\n"


def test_a_full_disk_behind_stderr_too_is_an_exit_code(work: Workplace) -> None:
    assert shell("$k sessions >/dev/full 2>&1").returncode == 1
    assert shell("$k show nothing 2>/dev/full").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_what_an_encoding_lacks_is_written_with_other_signs(work: Workplace, encoding: str) -> None:
    commands = ("methods", "show last", "compare last", "replay last --speed 1000", "run --help")
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_TURN, *commands],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert b"in effect" in done.stdout, "this looks at nothing"
    assert b"\xe2" not in done.stdout
    assert b"\\u" not in done.stdout, "signs of ours have one of ASCII"


def test_json_says_the_same_in_every_encoding(work: Workplace) -> None:
    model = make_model(work.home / "模型 é 🚀")
    folder = work.run("one", model=str(model))
    documents = [
        json.loads(
            subprocess.run(
                [str(KASOKU), "show", folder.id, "--json"],
                capture_output=True,
                check=True,
                env={**os.environ, "PYTHONIOENCODING": encoding},
            ).stdout
        )
        for encoding in ("utf-8", "ascii", "latin-1")
    ]
    assert documents[0] == documents[1] == documents[2]
    assert "模型 é 🚀" in json.dumps(documents[1], ensure_ascii=False)


@pytest.mark.parametrize(
    ("handler", "text", "expected"),
    [
        (PRINTED, "✓ 1.2 ±0.1 × … → 3 – 4", "+ 1.2 +/-0.1 x ... -> 3 - 4"),
        (PRINTED, "é 模 🚀", "\\u00e9 \\u6a21 \\ud83d\\ude80"),
        (DRAWN, "✓ 1.2 ±0.1 × … │─┼╭ ▁█ ⠀⣿", "+ 1.2 ~0.1 x . |-++ ##  :"),
        (DRAWN, "é 模 e\u0301", "? ?? e"),
    ],
)
def test_every_sign_has_a_substitute(handler: str, text: str, expected: str) -> None:
    assert codecs.encode(text, "ascii", handler) == expected.encode()


def test_calibrate_obeys_ctrl_c_though_it_was_begun_in_a_scripts_background(work: Workplace, tmp_path: Path) -> None:
    work.method("slow", rate=50.0)
    said = tmp_path / "said"
    begun = subprocess.run(
        ["/bin/sh", "-c", f'"{KASOKU}" calibrate slow --model {work.model} --max-new-tokens 50 >{said} 2>&1 & echo $!'],
        capture_output=True,
        text=True,
        check=True,
    )
    pid = int(begun.stdout)
    until(lambda: said.exists() and "preparing" in said.read_text() + said.read_text(), "it has begun", 60)
    os.kill(pid, signal.SIGINT)
    until(lambda: not Path(f"/proc/{pid}").exists(), "it ends", 60)
