"""The one writer of what a user names as output: a CSV, a page, an export.

A regular file is replaced as a whole, and so is the one that a link leads to. A device, a pipe, a socket, and what is
open as this process's own output are written into and never replaced.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import time
from pathlib import Path
from typing import Final

from methods.base.home import fsync_folder
from methods.base.user_path import PathError, absolute, reason

READER_WAIT_S: Final = 5.0  # for somebody to read from a pipe
POLL_S: Final = 0.05
NOT_TO_BE_REPLACED: Final = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.EXDEV, errno.EROFS)


class OutputError(Exception):
    """The output cannot be written. The text is one sentence for the user."""


def write_named(named: Path, content: bytes) -> Path:
    """Write `content` to what the user named; the absolute path of that. Raises OutputError.

    A new file follows the umask, one that is replaced keeps its permissions.
    """
    try:
        target = absolute(named)
    except PathError as error:
        raise OutputError(str(error)) from None
    try:
        _write(target, content)
    except BrokenPipeError:  # its reader, `head` say, has seen enough
        pass
    except (OSError, ValueError) as error:
        said = reason(error) if isinstance(error, OSError) else "it is not a path"
        raise OutputError(
            f"{target} cannot be written ({said}): name a file in a folder of yours that exists."
        ) from None
    return target


def _write(target: Path, content: bytes) -> None:
    try:
        there = target.stat()
    except FileNotFoundError:
        _replace(Path(os.path.realpath(target)), content, None)
        return
    if (own := _own_output(there)) is not None:
        _write_all(own, content)
    elif stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    elif not stat.S_ISREG(there.st_mode) or there.st_nlink == 0:
        _write_into(target, content)
    else:
        real = Path(os.path.realpath(target))
        try:
            _replace(real, content, stat.S_IMODE(there.st_mode))
        except OSError as error:  # the file may be writable where its folder is not, or be a mount of its own
            if error.errno not in NOT_TO_BE_REPLACED:
                raise
            _write_into(real, content, os.O_TRUNC)


def _own_output(there: os.stat_result) -> int | None:
    """The descriptor of ours, stdout's or stderr's, that this is: /dev/stdout for one."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.path.samestat(there, os.fstat(descriptor)):
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                return descriptor
    return None


def _replace(path: Path, content: bytes, mode: int | None) -> None:
    temporary = path.with_name(f".kasoku-{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(path.parent)


def _write_into(path: Path, content: bytes, flags: int = 0) -> None:
    until = time.monotonic() + READER_WAIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | flags)
            break
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OSError(errno.ENXIO, "nobody reads from it") from None
            time.sleep(POLL_S)
    try:
        os.set_blocking(descriptor, True)
        _write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
