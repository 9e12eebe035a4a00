"""The warden leaves nothing behind, says how its program ended, and takes it along when it must go itself."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from methods.base.warded_process import ProcessEnd, WardedProcess
from methods.base.warden import PR_SET_CHILD_SUBREAPER, become_subreaper, kill_descendants, prctl
from tests.sessions.processes import described, end_all, processes_of, until

LEAVES_OTHERS = """
import os, signal, subprocess, sys, time
def deaf():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
if os.fork() == 0:                     # a daemon: two forks, a process session of its own
    os.setsid()
    if os.fork() == 0:
        deaf(); open("daemon", "w").write(str(os.getpid()))
        while True: time.sleep(60)
    os._exit(0)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
open("child", "w").write(str(child.pid))
while not (os.path.exists("daemon") and os.path.getsize("daemon")): time.sleep(0.005)
"""

REFUSED_CALLS = Path(__file__).parents[1] / "refused_calls.py"
PIDFD_OPEN, PRCTL = 434, {"x86_64": 157}.get(platform.machine(), 167)
LINE_BYTES = 4096
Start = Callable[..., WardedProcess]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Python code under a warden, in the test's folder; the wire's number is its first argument."""
    started: list[WardedProcess] = []

    def started_with(code: str, *arguments: str, program: str = sys.executable) -> WardedProcess:
        process = WardedProcess(
            [program, "-I", "-c", code, WardedProcess.WIRE, *arguments],
            tmp_path / "log",
            {"PATH": os.environ["PATH"]},
            tmp_path,
            LINE_BYTES,
        )
        started.append(process)
        return process

    yield started_with
    for process in started:
        process.let_go()
    end_all(tmp_path)


def ended(process: WardedProcess) -> ProcessEnd:
    def end() -> ProcessEnd | None:
        process.look_after()
        return process.end

    return until(end, "the warden says how it ended", 20)


def test_a_folder_goes_with_the_process_even_where_its_starter_is_gone(tmp_path: Path) -> None:
    left = tmp_path / "sockets"
    left.mkdir()
    code = f"import socket, time; socket.socket(socket.AF_UNIX).bind({str(left / 's')!r}); time.sleep(1000)"
    program = [sys.executable, "-I", "-c", code]
    process = WardedProcess(program, tmp_path / "log", {}, tmp_path, LINE_BYTES, removed=left)
    try:
        until((left / "s").exists, "the socket is there", 20)
        process.let_go()  # as the kernel does for a starter that was killed
        ended(process)
        assert not left.exists()
    finally:
        process.close()


def running(process: WardedProcess) -> int:
    """The program's process id, once it runs."""

    def pid() -> int | None:
        process.look_after()
        return process.pid

    return until(pid, "the warden has started the program", 20)


def refusing(monkeypatch: pytest.MonkeyPatch, folder: Path, call: int, error: int) -> None:
    """Have wardens run where the kernel refuses a system call; the test is skipped where that cannot be had."""
    command = [sys.executable, str(REFUSED_CALLS), str(error), str(call)]
    if subprocess.run([*command, "/bin/true"], check=False).returncode != 0:
        pytest.skip("this kernel takes no seccomp filter")
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(command)} {sys.executable} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(wrapper))


def assert_nothing_in(folder: Path) -> None:
    until(lambda: not processes_of(folder), f"nothing is left: {described(processes_of(folder))}", 10)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", ProcessEnd(exit=0)),
        ("import os; os._exit(7)", ProcessEnd(exit=7)),
        ("raise SystemExit('no')", ProcessEnd(exit=1)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ProcessEnd(signal=9)),
        ("import ctypes; ctypes.string_at(0)", ProcessEnd(signal=11)),
    ],
)
def test_it_says_how_the_program_ended(start: Start, code: str, expected: ProcessEnd) -> None:
    end = ended(start(code))
    assert (end.exit, end.signal, end.left_behind) == (expected.exit, expected.signal, 0)


def test_its_lines_come_to_the_end_with_a_beat_whenever_there_is_none_for_half_a_second(start: Start) -> None:
    process = start(
        "import os, sys, time; w = int(sys.argv[1])\n"
        "os.write(w, b'one\\ntwo\\n'); time.sleep(1.2); os.write(w, b'three')"
    )
    heard = list(process.lines_to_the_end())
    assert [line for line in heard if line] == [b"one", b"two", b"three"]
    assert heard.index(b"three") - heard.index(b"two") > 2, "two beats between them"
    assert process.end is not None
    assert process.end.exit == 0


def test_its_lines_end_with_the_program_whoever_still_holds_the_wire(start: Start, tmp_path: Path) -> None:
    process = start(LEAVES_OTHERS + "\nos.write(int(sys.argv[1]), b'said\\n')")
    assert [line for line in process.lines_to_the_end() if line] == [b"said"]
    assert process.end is not None
    assert process.end.left_behind == 2
    assert_nothing_in(tmp_path)


def test_without_a_log_what_the_program_prints_is_on_its_wire(tmp_path: Path) -> None:
    program = [sys.executable, "-I", "-c", "import sys; print('out', flush=True); print('err', file=sys.stderr)"]
    with closing(WardedProcess(program, None, {}, tmp_path, LINE_BYTES)) as process:
        assert [line for line in process.lines_to_the_end() if line] == [b"out", b"err"]


def test_a_terminal_is_stdin_and_stdout_and_its_program_dies_with_its_starter_even_when_stopped(
    tmp_path: Path,
) -> None:
    code = "import os, time; open('tty', 'w').write(' '.join(os.ttyname(n) for n in (0, 1, 2))); time.sleep(1000)"
    starter = psutil.Popen([sys.executable, "-c", TERMINAL, str(tmp_path), code])
    until(lambda: (tmp_path / "tty").is_file() and (tmp_path / "tty").read_text(), "the program has a terminal", 20)
    names = (tmp_path / "tty").read_text().split()
    assert len(names) == 3
    assert len(set(names)) == 1
    written = tmp_path / "pid"
    until(lambda: written.is_file() and written.stat().st_size, "its number is known", 20)
    pid = int(written.read_text())
    os.kill(pid, signal.SIGSTOP)
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it is stopped", 10)
    starter.kill()
    starter.wait()
    assert_nothing_in(tmp_path)


def test_a_program_that_is_not_there_is_exit_127_and_a_line_in_the_log(start: Start, tmp_path: Path) -> None:
    end = ended(start("", program="/no/such/python"))
    assert (end.exit, end.signal) == (127, None)
    assert "/no/such/python cannot be started" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM])
def test_it_needs_no_pidfd(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    program = sys.executable
    refusing(monkeypatch, tmp_path, PIDFD_OPEN, error)
    end = ended(start("raise SystemExit(7)", program=program))
    assert end == ProcessEnd(exit=7, oom_kills=0)
    process = start(LEAVES_OTHERS + "\ntime.sleep(1000)", program=program)
    until(lambda: (tmp_path / "daemon").is_file() and (tmp_path / "child").is_file(), "both have started", 20)
    assert (end := process.close()).signal == 9
    assert end.left_behind == 2


def test_what_the_system_refuses_it_is_said(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = sys.executable
    refusing(monkeypatch, tmp_path, PRCTL, errno.EPERM)
    end = ended(start("", program=program))
    assert end == ProcessEnd(refused="prctl(36): Operation not permitted")
    assert end.sentence().startswith("could not be supervised")


def test_what_goes_wrong_in_the_warden_is_in_the_log(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho this Python is broken >&2\nexit 1\n")
    broken.chmod(0o700)
    program = sys.executable
    monkeypatch.setattr(sys, "executable", str(broken))
    assert ended(start("", program=program)) == ProcessEnd()
    assert (tmp_path / "log").read_text() == "this Python is broken\n"


def test_what_the_program_prints_is_in_the_log_and_its_wire_is_its_own(start: Start, tmp_path: Path) -> None:
    process = start(
        "import os, sys; print('out'); print('err', file=sys.stderr); os.write(int(sys.argv[1]), b'said\\n')"
    )
    assert ended(process).exit == 0
    assert process.lines() == [b"said"]
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_the_program_has_a_process_session_of_its_own_and_default_signals(start: Start) -> None:
    process = start("import os, sys, time; os.write(int(sys.argv[1]), b'ready\\n'); time.sleep(1000)")
    assert until(process.lines, "the program is ready", 20) == [b"ready"]
    pid = running(process)
    assert os.getsid(pid) == pid
    blocked = {
        line.split(":")[0]: int(line.split()[1], 16)
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(("SigBlk", "SigIgn"))
    }
    assert blocked["SigBlk"] == 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        assert not blocked["SigIgn"] & (1 << (number - 1))
    inherited = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
    assert len([target for target in inherited if target.startswith("pipe:")]) == 1, "the wire and no other pipe"


def test_descendants_in_other_process_sessions_are_killed_when_the_program_ends(start: Start, tmp_path: Path) -> None:
    end = ended(start(LEAVES_OTHERS))
    assert (end.exit, end.left_behind) == (0, 2)
    for name in ("daemon", "child"):
        assert not psutil.pid_exists(int((tmp_path / name).read_text()))
    assert_nothing_in(tmp_path)


def test_letting_go_kills_the_program_and_all_it_started(start: Start, tmp_path: Path) -> None:
    process = start(LEAVES_OTHERS + "\ntime.sleep(1000)")
    until(lambda: (tmp_path / "daemon").is_file() and (tmp_path / "child").is_file(), "both have started", 20)
    end = process.close()
    assert (end.signal, end.left_behind) == (9, 2)
    assert_nothing_in(tmp_path)


def test_a_program_that_forks_faster_than_it_is_killed_is_ended_too(start: Start, tmp_path: Path) -> None:
    process = start(
        "import os, time\nopen('on', 'w')\n"
        "for _ in range(60):\n    if os.fork() == 0:\n        os.setsid()\n        for _ in range(3): os.fork()\n"
        "        time.sleep(1000)\ntime.sleep(1000)"
    )
    until((tmp_path / "on").is_file, "it has begun to fork", 20)
    process.close()
    assert_nothing_in(tmp_path)


TERMINAL = """
import os, pty, sys, time
from pathlib import Path
from methods.base.warded_process import WardedProcess
folder, (_, slave) = Path(sys.argv[1]), pty.openpty()
process = WardedProcess([sys.executable, "-I", "-c", sys.argv[2]], slave, {}, folder, 4096)
(folder / "pid").write_text(str(process.wait_for_start(20)))
time.sleep(1000)
"""

CONDUCTOR = """
import os, sys, time
from pathlib import Path
from methods.base.warded_process import WardedProcess
from methods.base.warden import become_subreaper
become_subreaper()
folder = Path(sys.argv[1])
process = WardedProcess([sys.executable, "-I", "-c", sys.argv[2], WardedProcess.WIRE], folder / "log", {}, folder, 4096)
while True:
    process.look_after()
    if process.pid: (folder / "started").write_text(f"{process.warden_pid} {process.pid}")
    time.sleep(0.01)
"""


def test_when_its_conductor_is_killed_nothing_lives_on(tmp_path: Path) -> None:
    conductor = psutil.Popen([sys.executable, "-c", CONDUCTOR, str(tmp_path), LEAVES_OTHERS + "\ntime.sleep(1000)"])
    until(lambda: all((tmp_path / name).is_file() for name in ("started", "daemon", "child")), "all have started", 20)
    conductor.kill()
    conductor.wait()
    assert_nothing_in(tmp_path)


@pytest.fixture
def subreaper() -> Iterator[None]:
    """The tests' own process is one, as every conductor is; strays of later tests are not its children."""
    become_subreaper()
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.mark.usefixtures("subreaper")
def test_when_it_is_killed_its_program_dies_and_the_conductor_reaps_the_strays(start: Start, tmp_path: Path) -> None:
    process = start(LEAVES_OTHERS + "\ntime.sleep(1000)")
    until(lambda: (tmp_path / "daemon").is_file() and (tmp_path / "child").is_file(), "both have started", 20)
    program = running(process)
    os.kill(process.warden_pid, signal.SIGKILL)
    assert ended(process) == ProcessEnd()
    assert ended(process).sentence() == "died together with its warden"
    until(lambda: not alive(program), "the program dies with its warden", 10)
    strays = [int((tmp_path / name).read_text()) for name in ("daemon", "child")]
    assert all(alive(stray) for stray in strays), "nothing to reap: this test shows nothing"
    ours = frozenset(child.pid for child in psutil.Process().children(recursive=True) if child.pid not in strays)
    kill_descendants(spare=ours)
    assert not any(alive(stray) for stray in strays)
    assert_nothing_in(tmp_path)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_closing_waits_no_longer_than_it_takes(start: Start) -> None:
    process = start("import time; time.sleep(1000)")
    running(process)
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < 5


def test_signals_of_a_terminal_do_not_end_it(start: Start) -> None:
    process = start("import time; time.sleep(1000)")
    running(process)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(process.warden_pid, number)
    assert psutil.Process(process.warden_pid).status() != psutil.STATUS_ZOMBIE
    process.look_after()
    assert process.end is None
