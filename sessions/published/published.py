"""The sessions that a team's store has: listed in few requests, fetched file by file as they are read.

What comes from a store is foreign. A name is checked before it becomes a path; a manifest must have the digest that it
is named by, and a file the size and the digest that its manifest gives, before it is put where it can be read: into the
cache of this home, below the manifest's revision, where it stays, as what has a digest never changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from methods.base.home import CACHE, HomeError, private_folder
from methods.base.user_path import reason
from sessions.disk.listing import UNREADABLE, SessionRow
from sessions.disk.session_folder import ID_PATTERN, SessionError
from sessions.published.location import opened
from sessions.published.manifest import (
    FRAME_FILES,
    LISTED,
    LISTED_MOST,
    MANIFEST_MOST,
    MANIFESTS,
    PUBLISHED,
    SHARDS,
    ListedRow,
    Manifest,
    PublishedFile,
    decoded,
    decoded_rows,
    name_of,
    named,
)
from sessions.published.objects import NoObjectError, Objects, StoreError
from sessions.published.published_folder import PublishedFolder

AT_ONCE: Final = 16
KEPT: Final = "store"  # in the cache of the home
KEPT_MOST: Final = 8 << 30  # bytes
IN_USE_S: Final = 3600.0
ROWS_BEYOND: Final = 100_000  # rows of a frame, and so many more
ROWS_A_BYTE: Final = 4


class Published:
    """The sessions in the store of that name. Everything raises SessionError with a sentence."""

    def __init__(self, named_by: str, home: Path) -> None:
        self.objects: Objects = opened(named_by)
        place = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self._cache = home / CACHE / KEPT / place
        self._revisions: dict[str, str] = {}
        self._manifests: dict[str, Manifest] = {}
        self._tidied = False

    @property
    def url(self) -> str:
        """What the user named it by."""
        return self.objects.url

    # Listing

    def listed(self) -> list[SessionRow]:
        """A row for every session, newest first; one that cannot be read is a row that says why."""
        rows = self.rows()
        self._revisions = {row.row.id: row.revision for row in rows}
        return [msgspec.structs.replace(each.row, store=self.url, lost=False) for each in rows]

    def rows(self) -> list[ListedRow]:
        """What `listed` shows, with the revisions; of two manifests of a session, the later one."""
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            known = pool.submit(self._known)
            found = pool.map(self._shard, SHARDS)
            there = [each for shard in found for each in shard]
            by_name = {(each.row.id, each.revision): each for each in known.result() if _is_sound(each.row)}
            unlisted = [name for name in there if name not in by_name]
            read = pool.map(lambda name: self._row(*name), unlisted)
            by_name |= {name: row for name, row in zip(unlisted, read, strict=True) if row is not None}
        latest: dict[str, ListedRow] = {}
        for each in there:
            row = by_name.get(each)
            before = latest.get(each[0])
            if row is not None and (before is None or _age(before) < _age(row)):
                latest[each[0]] = row
        return sorted(latest.values(), key=lambda each: each.row.id, reverse=True)

    def _shard(self, shard: str) -> list[tuple[str, str]]:
        """The sessions whose IDs end so, with the revisions of their manifests."""
        found = map(named, self.objects.below(f"{MANIFESTS}/{shard}"))
        return [each for each in found if each is not None and each[0].endswith(shard)]

    def _known(self) -> Sequence[ListedRow]:
        """The rows that the last publication left; where they cannot be read, each manifest is."""
        try:
            return decoded_rows(self.objects.read(LISTED, LISTED_MOST))
        except StoreError:
            return ()

    def _row(self, session: str, revision: str) -> ListedRow | None:
        """The row that a manifest has; None of one that is not there (yet, or any more)."""
        try:
            manifest = self._manifest(session, revision)
        except NoObjectError:
            return None
        except SessionError as error:
            problem = SessionRow(session, UNREADABLE, 0, "", (), "", "", (), 0, 0, "", None, str(error))
            return ListedRow(revision, 0, problem)
        return ListedRow(revision, manifest.published_ns, manifest.row)

    def _manifest(self, session: str, revision: str) -> Manifest:
        """Raises NoObjectError, StoreError, SessionError."""
        if revision not in self._manifests:
            content = self.objects.read(name_of(session, revision), MANIFEST_MOST)
            self._manifests[revision] = decoded(session, revision, content)
        return self._manifests[revision]

    # One session

    def manifest(self, session: str) -> tuple[str, Manifest] | None:
        """The latest manifest of the session with that ID and its revision; None where the store has none."""
        known = self._revisions.pop(session, None)
        revisions = [known] if known else [own for name, own in self._shard(session[-1]) if name == session]
        found = []
        for revision in revisions:
            with contextlib.suppress(NoObjectError):
                found.append((revision, self._manifest(session, revision)))
        if known and not found:  # published again since, or removed
            return self.manifest(session)
        if not found:
            return None
        latest = max(found, key=lambda each: (each[1].published_ns, each[0]))
        self._revisions[session] = latest[0]
        return latest

    def forget(self, session: str) -> None:
        """Look for its manifest again when it is asked for next."""
        self._revisions.pop(session, None)

    def find(self, session: str) -> PublishedFolder | None:
        """The session with that ID, name, or beginning or end of an ID; None where there is none.

        SessionError where there is more than one.
        """
        if ID_PATTERN.fullmatch(session):
            return self.folder(session)
        rows = self.listed()
        found = [row.id for row in rows if session and (row.id.startswith(session) or row.id.endswith(session))]
        found = found or [row.id for row in rows if row.name and row.name == session]
        if len(found) > 1:
            raise SessionError(
                f"{session!r} matches {len(found)} sessions in {self.url}, such as {found[0]}: give more of the ID."
            )
        return self.folder(found[0]) if found else None

    def folder(self, session: str) -> PublishedFolder | None:
        """The session with that ID, its files fetched as they are asked for; None where there is none."""
        found = self.manifest(session)
        if found is None:
            return None
        revision, manifest = found
        path = self._cache / revision / session
        return PublishedFolder(path, manifest, self.url, lambda name: self._fetch(path, manifest, name))

    def fetch(self, sessions: Iterable[str], names: Iterable[str] | None = None) -> None:
        """Bring these files, else all, of many sessions; what is wrong with one is met again by who reads it."""
        wanted = tuple(names) if names is not None else None

        def opened_folder(session: str) -> PublishedFolder | None:
            with contextlib.suppress(SessionError):
                return self.folder(session)
            return None

        def bring(folder: PublishedFolder, name: str) -> None:
            with contextlib.suppress(SessionError):
                self._fetch(folder.path, folder.manifest, name)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for folder in pool.map(opened_folder, sessions):
                if folder is not None:
                    for file in folder.manifest.files:
                        if wanted is None or file.name in wanted:
                            pool.submit(bring, folder, file.name)

    def _fetch(self, path: Path, manifest: Manifest, name: str) -> None:
        """Have a file of the session in the cache, checked. Raises SessionError."""
        file = manifest.file(name)
        if file is None or os.path.isfile(path / name):
            return
        try:
            private_folder((path / name).parent)
            self._bring(path / name, manifest, file)
            if not self._tidied:
                self._tidied = True
                _tidy(self._cache.parent)
        except NoObjectError:
            self.forget(manifest.id)
            raise SessionError(
                f"{name} of {manifest.id} is not in {self.url} any more: the session was published again or removed"
                " meanwhile; try again."
            ) from None
        except HomeError as error:
            raise SessionError(str(error)) from None
        except OSError as error:
            raise SessionError(f"{manifest.id} cannot be kept in {self._cache}: {reason(error)}.") from None

    def _bring(self, path: Path, manifest: Manifest, file: PublishedFile) -> None:
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        digest = hashlib.sha256()
        try:
            with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as target:
                for chunk in self.objects.chunks(manifest.object_name(file.name), file.size):
                    digest.update(chunk)
                    target.write(chunk)
            if digest.hexdigest() != file.sha256:
                raise SessionError(
                    f"{file.name} of {manifest.id} in {self.url} is not what was published: it is damaged, or was"
                    " changed since; publish the session again."
                )
            if file.name in FRAME_FILES:
                _refuse_unbounded(temporary, manifest.id, file)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _is_sound(row: SessionRow) -> bool:
    return row.status in PUBLISHED and ID_PATTERN.fullmatch(row.id) is not None


def _age(row: ListedRow) -> tuple[int, str]:
    return row.published_ns, row.revision


def _refuse_unbounded(path: Path, session: str, file: PublishedFile) -> None:
    """SessionError for a frame that says to have more rows than its bytes can hold: it would fill the memory."""
    import polars as pl

    try:
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        return  # whoever reads it says what is wrong
    if rows > ROWS_BEYOND + ROWS_A_BYTE * file.size:
        raise SessionError(
            f"{file.name} of {session} is not opened: it says to have {rows:,} rows in {file.size:,} bytes, and was"
            " made to fill the memory of who reads it."
        )


def _tidy(cache: Path) -> None:
    """Drop what was used longest ago while all of it is too much."""
    kept: list[tuple[float, int, Path]] = []
    with contextlib.suppress(OSError):
        for path in cache.glob("*/*"):
            files = [each.lstat() for each in path.rglob("*")]
            used = max((each.st_atime for each in files), default=0.0)
            kept.append((used, sum(each.st_size for each in files), path))
    total = sum(size for _, size, _ in kept)
    for used, size, path in sorted(kept):
        if total <= KEPT_MOST or used > time.time() - IN_USE_S:
            break
        shutil.rmtree(path, ignore_errors=True)
        total -= size
