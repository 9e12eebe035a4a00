"""Which processes belong to a folder, and waiting for a condition with a deadline."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

Found = TypeVar("Found")
DEADLINE_S = 180.0


def until(condition: Callable[[], Found | None], what: str, deadline_s: float = DEADLINE_S) -> Found:
    """What `condition` gives as soon as it is true; fails the test once the deadline has passed."""
    deadline = time.monotonic() + deadline_s
    looked = time.monotonic()
    while not (found := condition()):
        now = time.monotonic()
        assert now < deadline, f"not within {deadline_s:g} s: {what}"
        looking = now - looked
        time.sleep(max(0.005, looking, min(0.03, 4 * looking)))  # most of a core is left to what is waited for
        looked = time.monotonic()
    return found


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every living process with `folder` in its command line, environment, working directory or open files."""
    needle = str(folder)
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            places = [*process.cmdline(), *process.environ().values(), process.cwd()]
            places += [file.path for file in process.open_files()]
            alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if alive and any(needle in place for place in places):
            found.append(process)
    return found


def is_alive(process: psutil.Process) -> bool:
    """Whether it has not ended, waited for by its parent or not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end_all(folder: Path) -> None:
    """Kill what is left of a folder's processes."""
    for process in processes_of(folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def described(processes: list[psutil.Process]) -> list[str]:
    """For a failed test: who they are."""
    rows = []
    for process in processes:
        try:
            rows.append(f"{process.pid} {process.status()} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return rows


def child_of(pid: int, part: str) -> psutil.Process | None:
    """The first process below `pid` whose command line contains `part`."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return None
    for process in below:
        try:
            if any(part in argument for argument in process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None
