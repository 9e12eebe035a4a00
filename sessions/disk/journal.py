"""The journal: appended by the conductor alone, followed by everyone else.

A journal truncated anywhere is a session up to its last complete line; a line that is not a record is counted and
skipped; a journal of a newer schema is refused with a sentence.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from methods.base.line_reader import LineSplitter
from sessions.disk.records import SCHEMA_VERSION, AnyRecord, Header, Prepared, decoder, encode

NAME: Final = "journal.ndjson"
READ_BYTES: Final = 1 << 20
LINE_LIMIT_BYTES: Final = 8 << 20
BALLAST_BYTES: Final = 256 << 10


class JournalError(Exception):
    """The journal cannot be read or written; the message is a sentence for people."""


class JournalFullError(JournalError):
    """The disk (or the quota) is full: the journal ends with its last complete line."""


class NewerJournalError(JournalError):
    """The journal was written by a newer Kasoku than this one."""


class JournalWriter:
    """Appends complete lines. A line that does not fit on the disk is undone, so the file ends with a complete one.

    `ballast` is a file of blocks kept free for the last lines of a session whose disk fills up: `release_ballast()`.
    """

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / ".ballast"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._descriptor = os.open(folder / NAME, flags, 0o600)
            self._size = os.fstat(self._descriptor).st_size
            self._cut_torn_line(folder / NAME)
            self._reserve_ballast()
        except OSError as error:
            raise _as_journal_error(error, folder) from None

    def _cut_torn_line(self, path: Path) -> None:
        with path.open("rb") as journal:
            end = end_of_last_line(journal, self._size)
        if end != self._size:
            os.ftruncate(self._descriptor, end)
            self._size = end

    def _reserve_ballast(self) -> None:
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
        except OSError:
            self._ballast.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def release_ballast(self) -> None:
        """Give the reserved blocks back to the disk, so that the last lines of a session still fit."""
        self._ballast.unlink(missing_ok=True)

    def append(self, record: AnyRecord) -> None:
        """Write one record as one line, or raise JournalError and leave the file as it was."""
        line = encode(record) + b"\n"
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            os.ftruncate(self._descriptor, self._size)
            raise _as_journal_error(error, self._ballast.parent) from None
        self._size += len(line)

    def sync(self) -> None:
        """Sync what was appended to the disk."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _as_journal_error(error, self._ballast.parent) from None

    def close(self) -> None:
        self.release_ballast()
        os.close(self._descriptor)


def _as_journal_error(error: OSError, folder: Path) -> JournalError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return JournalFullError(
            f"The disk of {folder} is full: what was measured until now is saved; free some space and resume."
        )
    return JournalError(
        f"The journal in {folder} cannot be written ({error.strerror}): check the folder's permissions."
    )


def end_of_last_line(journal: BinaryIO, size: int) -> int:
    """Offset just after the last newline of an open binary file of `size` bytes."""
    end = size
    while end > 0:
        start = max(0, end - READ_BYTES)
        journal.seek(start)
        newline = journal.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


class JournalTail:
    """Reads the whole lines that a journal has gained since the last call; memory stays bounded by one read.

    `rejected` counts lines that were not records: garbage is skipped, never raised.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._lines = LineSplitter(LINE_LIMIT_BYTES)
        self._decoder = decoder()
        self._no_records = 0

    @property
    def rejected(self) -> int:
        return self._lines.oversized + self._no_records

    @property
    def offset(self) -> int:
        """Bytes of the file read until now."""
        return self._offset

    def read(self, limit_bytes: int = READ_BYTES) -> list[AnyRecord]:
        """The next records, from at most `limit_bytes` of the file; empty where nothing whole was added."""
        try:
            with self._path.open("rb") as journal:
                journal.seek(self._offset)
                chunk = journal.read(limit_bytes)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise JournalError(f"The journal {self._path} cannot be read ({error.strerror}).") from None
        if not chunk:
            return []
        self._offset += len(chunk)
        return [record for line in self._lines.feed(chunk) if line and (record := self._decode(line)) is not None]

    def _decode(self, line: bytes) -> AnyRecord | None:
        try:
            record: AnyRecord = self._decoder.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self._no_records += 1
            return None
        if isinstance(record, Header) and record.schema_version > SCHEMA_VERSION:
            raise NewerJournalError(
                f"This session was written by a newer Kasoku (journal schema {record.schema_version},"
                f" this one reads up to {SCHEMA_VERSION}): update Kasoku to open it."
            )
        return record


def read_journal(path: Path) -> Iterator[AnyRecord]:
    """Every record of a journal, in order."""
    tail = JournalTail(path)
    while True:
        before = tail.offset
        records = tail.read()
        yield from records
        if not records and tail.offset == before:
            return


def prepared(path: Path) -> Prepared | None:
    """What the preparation found, from a session's journal; None if it never got that far."""
    try:
        return next((record for record in read_journal(path) if isinstance(record, Prepared)), None)
    except JournalError:
        return None
