"""A file lock between processes: one holder at a time, released by the kernel however the holder ends."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from methods.base.home import HomeError
from methods.base.progress import Progress, Report

POLL_SECONDS = 0.2


@contextmanager
def held(path: Path, phase: str, report: Report) -> Iterator[None]:
    """Hold the lock `path`; while another process has it, wait and say so as `phase`."""
    descriptor = _open(path)
    try:
        while not _taken(descriptor):
            report(Progress(phase, "waiting for another kasoku that is doing the same"))
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock `path` when nobody has it, and say whether that was so."""
    descriptor = _open(path)
    try:
        yield _taken(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeError(f"Kasoku cannot lock {path} ({error.strerror}); make its folder writable.") from error


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
