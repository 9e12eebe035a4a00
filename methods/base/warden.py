"""The warden: starts one process for the workbench and leaves none of its descendants behind.

    PYTHON -IS warden.py LIFELINE_FD REPORT_FD WIRE_FD OUTPUT REMOVED PROGRAM [ARGUMENT]…

Standard library only. The program gets WIRE_FD, OUTPUT (a log's path, or `fd:NUMBER`) as its stdout and stderr, and a
process session of its own; its stdin is OUTPUT where that is a terminal, and otherwise empty. When it ends, or when the
other end of LIFELINE_FD closes (its starter let go, or died), every descendant is killed, engines' own children
included: the warden is a child subreaper, so none can leave by losing its parent. Should the warden itself be killed,
the program dies with it (parent-death signal), and the conductor, a subreaper too, reaps the rest. Once they are gone,
so is the folder REMOVED, unless that is empty, and before it the containers that are noted in it: they are no
descendants of anybody here, and are ended by name through their runtime.

REPORT_FD gets two JSON lines: {"pid"} once the program runs, and at the end {"exit", "signal", "left_behind",
"oom_kills", "containers_left"}, where oom_kills is by how much the kernel's count of out-of-memory kills rose
meanwhile, and containers_left are commands that would end those that could not be ended. Where the system
refuses what the warden needs, the last line is {"refused"}, a few words on what that was.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
LET_GO_S = 10.0
CONTAINERS = "containers"  # in the folder REMOVED, a line for each: [runtime, name]
END_CONTAINER_S = 8.0


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument; OSError where the kernel refuses."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"prctl({option})")


def become_subreaper() -> None:
    """Make the orphans among our descendants our children instead of init's; OSError where the kernel refuses."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def oom_kills() -> int | None:
    """The kernel's count of out-of-memory kills since boot; None if unknown."""
    try:
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except (OSError, ValueError):
        pass
    return None


def descendants(root: int, without: frozenset[int] = frozenset()) -> dict[int, str]:
    """Every process below `root` with its state (`Z`: dead, but unreaped), from one pass over /proc; `without` these
    and what is below them."""
    children: dict[int, list[tuple[int, str]]] = {}
    try:
        entries = os.listdir("/proc")  # noqa: PTH208 - names, not paths, thousands of times
    except OSError:  # not mounted: nothing can be found
        return {}
    for entry in entries:
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                    # the command's name may hold anything, so fields are counted from its closing parenthesis
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
                children.setdefault(int(parent), []).append((int(entry), state.decode()))
    found: dict[int, str] = {}
    frontier = [root]
    while frontier:
        below = {pid: state for pid, state in children.get(frontier.pop(), []) if pid not in without}
        found |= below
        frontier += below
    return found


def kill_descendants(spare: frozenset[int] = frozenset(), within_s: float = LET_GO_S) -> int:
    """Kill and reap everything below this process but `spare` and what is below those; how many lived. Repeats until
    none is left."""
    killed: set[int] = set()
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        below = descendants(os.getpid(), spare)
        if not below:
            break
        for pid, state in below.items():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                if state != "Z":
                    killed.add(pid)
        reap(spare)
        time.sleep(0.005)
    return len(killed)


def end_containers(folder: str) -> list[str]:
    """End the containers that are noted in a block's folder. The commands that would end those that may be left."""
    try:
        lines = (Path(folder) / CONTAINERS).read_text(encoding="utf-8").splitlines()
        noted = [(str(runtime), str(name)) for runtime, name in map(json.loads, lines)]
    except (OSError, ValueError, TypeError):
        return []
    left = []
    for runtime, name in noted:
        ended(runtime, "kill", name)  # by itself, podman's rm waits ten seconds for it to end
        if not ended(runtime, "rm", "--force", name):
            left.append(f"{runtime} rm --force {name}")
    return left


def ended(*command: str) -> bool:
    """Whether a runtime did as it was told, or has no such container."""
    import subprocess

    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=END_CONTAINER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 or b"no such container" in done.stderr.lower()


def reap(spare: frozenset[int] = frozenset()) -> None:
    """Collect the children that have ended; those in `spare` are somebody else's to collect."""
    for pid in descendants(os.getpid(), spare):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def start(output: str, wire: int, program: list[str], warden: int) -> int:
    """Fork and execute the program as described in the module's docstring; returns its process ID."""
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != warden:  # it died before the kernel was told to tell us
            os._exit(127)
        os.setsid()
        with contextlib.suppress(OSError):  # of all processes, the measured one should go first when memory runs out
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
        descriptor = descriptor_of(output)
        if descriptor is None:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.dup2(descriptor if os.isatty(descriptor) else os.open(os.devnull, os.O_RDONLY), 0)
        os.set_inheritable(wire, True)
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execv(program[0], program)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{program[0]} cannot be started: {error}\n".encode())
    os._exit(127)


def descriptor_of(output: str) -> int | None:
    """The number in `fd:NUMBER`; None for a path, which is absolute."""
    return int(output[3:]) if output.startswith("fd:") else None


def child_signals() -> int:
    """A descriptor that is readable once a child has ended (kernels before 5.3, and some sandboxes, have no pidfd)."""
    readable, written = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(written, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    return readable


def end_of(pid: int, ended: int, lifeline: int) -> int:
    """The wait status of our child `pid` once it is over, which it is soon where the lifeline's other end closes."""
    poller = select.poll()
    poller.register(ended, select.POLLIN)
    poller.register(lifeline, select.POLLIN | select.POLLHUP)
    while True:
        over, status = os.waitpid(pid, os.WNOHANG)
        if over:
            return status
        if lifeline in {descriptor for descriptor, _ in poller.poll()}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            return os.waitpid(pid, 0)[1]
        with contextlib.suppress(BlockingIOError):
            os.read(ended, 4096)


def watch_over(lifeline: int, report: int, wire: int, output: str, program: list[str]) -> dict[str, int | None]:
    """Start the program and stay until it and its descendants are gone; how it ended. OSError where that is refused."""
    become_subreaper()
    ended = child_signals()
    before = oom_kills()
    pid = start(output, wire, program, os.getpid())
    for descriptor in {wire, descriptor_of(output) or wire}:
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.write(report, json.dumps({"pid": pid}).encode() + b"\n")
    status = end_of(pid, ended, lifeline)
    left = kill_descendants()
    after = oom_kills()
    code = os.waitstatus_to_exitcode(status)
    return {
        "exit": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "left_behind": left,
        "oom_kills": after - before if before is not None and after is not None else None,
    }


def main(arguments: list[str]) -> int:
    lifeline, report, wire, output = int(arguments[1]), int(arguments[2]), int(arguments[3]), arguments[4]
    for descriptor in (lifeline, report, wire, descriptor_of(output) or wire):
        os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end: dict[str, object]
    try:
        end = dict(watch_over(lifeline, report, wire, output, arguments[6:]))
    except OSError as error:
        kill_descendants()
        end = {"refused": f"{error.filename or 'a system call'}: {error.strerror or error}"}
    if arguments[5]:
        import shutil

        end["containers_left"] = end_containers(arguments[5])
        shutil.rmtree(arguments[5], ignore_errors=True)
    with contextlib.suppress(OSError):
        os.write(report, json.dumps(end).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
