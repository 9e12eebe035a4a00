"""Files that a user names, read up to a limit: a pipe or a device may have no end, and a name may lead to anything."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

LARGEST: Final = 512_000_000  # bytes: more than any file that is read as a whole, a large tokeniser for one


class ReadError(Exception):
    """What was named cannot be read. The text is one sentence for the user."""


def read_regular(path: Path, limit: int = LARGEST, *, links: bool = True) -> bytes:
    """The content of a regular file, without waiting for a pipe or a device that is there instead.

    Raises OSError, of which `strerror` is part of a sentence; not `links`, also where the file is one.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW)
    with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit / 1e6:g} MB", str(path))
    return content


def read_bytes(path: Path, limit: int, what: str, *, streams: bool = False) -> bytes:
    """The content of the file at `path`, of which no more than `limit` + 1 bytes are read. Raises ReadError.

    `what` is the subject of the sentence: "The prompt file /a/b". A pipe, a socket or a device is refused without
    waiting for it, unless `streams`: then it is read to its end.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if streams else os.O_NONBLOCK)
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            if not streams and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ReadError(f"{what} is not a file.")
            return read_stream(file, limit, what)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ReadError(f"{what} cannot be read: {reason}.") from error


def read_stream(stream: BinaryIO, limit: int, what: str) -> bytes:
    """What `stream` gives until its end, as `read_bytes` reads a file. Raises ReadError."""
    try:
        content = stream.read(limit + 1)
    except OSError as error:
        raise ReadError(f"{what} cannot be read: {(error.strerror or str(error)).lower()}.") from error
    if len(content) > limit:
        raise ReadError(f"{what} is larger than {limit / 1e6:g} MB; shorten it.")
    return content
