"""The rows of a frame that may not fit in memory: put down in chunks, read back lazily."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import polars as pl

from methods.base.home import fsync_folder
from sessions.disk.frame_schema import SCHEMA_KEY, SCHEMAS
from sessions.disk.records import SCHEMA_VERSION

CHUNK_ROWS: Final = 1 << 20  # of tokens some 90 MB


class LongFrame:
    """A frame, `name` of SCHEMAS, that grows by chunks; up to one it stays in memory, and is one file in `folder` once
    it is complete."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._folder = name, folder
        self._parts = folder / f"{name}.parquet.parts"
        self._written: list[Path] = []
        self._whole: pl.DataFrame | None = None
        shutil.rmtree(self._parts, ignore_errors=True)  # of a process that was killed

    def put(self, chunk: pl.DataFrame) -> None:
        """Write the next rows to disk."""
        if not self._written:
            self._parts.mkdir(mode=0o700)
        part = self._parts / f"{len(self._written):06}.parquet"
        with _created(part) as file:
            chunk.write_parquet(file, compression="lz4")
        self._written.append(part)

    def end(self, last: pl.DataFrame) -> None:
        """The last rows: where there are others, all of them become one file, which has its name only by `keep`."""
        if not self._written:
            self._whole = last
            return
        self.put(last)
        parts = pl.scan_parquet(self._written, schema=SCHEMAS[self.name], glob=False)
        with _created(self._temporary) as file:
            parts.sink_parquet(file, metadata={SCHEMA_KEY: str(SCHEMA_VERSION)})
        shutil.rmtree(self._parts)

    @property
    def whole(self) -> pl.DataFrame | None:
        """All rows, where they are in memory."""
        return self._whole

    def rows(self) -> pl.LazyFrame:
        """All rows, in the order in which they came."""
        if self._whole is not None:
            return self._whole.lazy()
        return pl.scan_parquet(self._temporary, schema=SCHEMAS[self.name], glob=False)

    def keep(self) -> None:
        """Give the file its name, replacing an earlier one."""
        if self._whole is None:
            with self._temporary.open("rb") as file:
                os.fsync(file.fileno())
        else:
            with _created(self._temporary) as file:
                self._whole.write_parquet(file, metadata={SCHEMA_KEY: str(SCHEMA_VERSION)})
                file.flush()
                os.fsync(file.fileno())
        self._temporary.replace(self._folder / f"{self.name}.parquet")
        fsync_folder(self._folder)

    def drop(self) -> None:
        """Remove what was not kept: on a full disk its blocks are what session.json needs."""
        self._temporary.unlink(missing_ok=True)
        shutil.rmtree(self._parts, ignore_errors=True)

    @property
    def _temporary(self) -> Path:
        return self._folder / f"{self.name}.parquet.tmp"


@contextmanager
def _created(path: Path) -> Iterator[IO[bytes]]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        yield file
