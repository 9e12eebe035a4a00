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
from methods.base.user_path import reason

POLL_SECONDS = 0.2


class NoLocksError(HomeError):
    """The home's file system has no locks. The text is one sentence for the user."""


@contextmanager
def held(path: Path, phase: str, report: Report) -> Iterator[None]:
    """Hold the lock `path`; while another process has it, wait and say so as `phase`."""
    descriptor = _open(path)
    try:
        while not try_take(descriptor, path):
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
        yield try_take(descriptor, path)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeError(f"Kasoku cannot lock {path} ({reason(error)}); make its folder writable.") from error


def try_take(descriptor: int, path: Path, *, shared: bool = False) -> bool:
    """Lock the open file, which belongs to `path`; False where somebody else holds it. Raises NoLocksError."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLocksError(no_locks(path.parent, reason(error))) from None
    return True


def no_locks(folder: Path, why: str) -> str:
    """The sentence for a folder on a file system without locks."""
    return (
        f"The file system of {folder} has no file locks ({why}), and without them two sessions could disturb each "
        "other: set KASOKU_HOME to a folder on a local disk."
    )


def lock_fault(folder: Path) -> str:
    """Why files in `folder` cannot be locked, as a sentence, or "" where they can. Raises HomeError."""
    path = folder / ".lock-probe"  # each opening of a file is a holder of its own
    first, second = _open(path), _open(path)
    try:
        if not try_take(first, path):
            return ""  # another doctor has it
        return no_locks(folder, "everybody is given the same one") if try_take(second, path) else ""
    except NoLocksError as error:
        return str(error)
    finally:
        os.close(first)
        os.close(second)
        path.unlink(missing_ok=True)
