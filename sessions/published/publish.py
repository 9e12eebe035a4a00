"""Publishing: a session that has ended is copied to a store, whole and checked; its manifest comes last."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from methods.base.progress import Progress, Report
from methods.base.user_path import reason
from sessions.disk import host_file
from sessions.disk.listing import listed_row
from sessions.disk.session_folder import SessionError, SessionFile, SessionFolder
from sessions.published.manifest import (
    FILE_MOST,
    FILES_MOST,
    FRAME_FILES,
    FRAME_MOST,
    LISTED,
    NEEDED,
    PUBLISHED,
    Listed,
    Manifest,
    PublishedFile,
    encoded,
    is_file_name,
    name_of,
)
from sessions.published.published import Published

LEFT: Final = ("lock", host_file.NAME)  # what stays here; and so do hidden files and viewers' requests
REQUESTS: Final = "requests"
AT_ONCE: Final = 4
CHUNK: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Publication:
    """What was published. `already` where the store had it so; `remark` is a sentence on what went less well, or ""."""

    session: str
    files: int
    size: int
    already: bool = False
    remark: str = ""


def publish(folder: SessionFolder, store: Published, report: Report) -> Publication:
    """Copy a session of this home to the store. It is locked meanwhile, so that nobody resumes it.

    Raises SessionError: where it has not ended, where the store has another state of it that this one does not go on
    from, or where the store cannot be written to; then the store has no session more.
    """
    lock = folder.try_lock()
    if lock is None:
        raise SessionError(f"{folder.id} is running: publish it once it has ended.")
    try:
        session = folder.read()
        _refuse_unfinished(folder, session)
        earlier = store.manifest(folder.id)
        manifest = Manifest(
            id=folder.id,
            published_ns=time.time_ns(),
            row=listed_row(folder, session),
            files=_described(folder, report),
        )
        return _published(folder, manifest, earlier, store, report)
    except OSError as error:
        raise SessionError(f"{folder.id} cannot be read ({reason(error)}), so it was not published.") from None
    finally:
        os.close(lock)


def _refuse_unfinished(folder: SessionFolder, session: SessionFile) -> None:
    if session.id != folder.id:
        raise SessionError(f"{folder.id} is not published: its session.json says that it is {session.id[:40]!r}.")
    if session.status not in PUBLISHED:
        raise SessionError(
            f"{folder.id} is {session.status[:20]}, and only sessions that were finished or stopped are published:"
            f" `kasoku resume {folder.id}` runs what is missing."
        )


def _published(
    folder: SessionFolder, manifest: Manifest, earlier: tuple[str, Manifest] | None, store: Published, report: Report
) -> Publication:
    size = sum(file.size for file in manifest.files)
    if earlier is not None and earlier[1].content == manifest.content:
        return Publication(folder.id, len(manifest.files), size, already=True, remark=_list_anew(store))
    if earlier is not None:
        _refuse_other(folder, earlier[1], store.url)
    _copy(folder, manifest, store, report)
    revision, content = encoded(manifest)
    store.objects.write(name_of(folder.id, revision), content)
    store.forget(folder.id)
    remarks = [_list_anew(store)]
    if earlier is not None:
        remarks.append(_remove(earlier[0], earlier[1], store))
    return Publication(folder.id, len(manifest.files), size, remark=" ".join(filter(None, remarks)))


def _described(folder: SessionFolder, report: Report) -> list[PublishedFile]:
    """The session's files. Raises SessionError, OSError."""
    files = []
    report(Progress("publish", f"{folder.id}: reading it"))
    for name in _names(folder.path):
        path = folder.path / name
        size, most = path.stat().st_size, FRAME_MOST if name in FRAME_FILES else FILE_MOST
        if not is_file_name(name) or size > most:
            what = f"larger than {most >> 30} GiB" if size > most else "called as no file of a session is"
            raise SessionError(f"{folder.id} is not published: {name[:100]!r} in it is {what}.")
        files.append(PublishedFile(name, size, _digest(path)))
    names = {file.name for file in files}
    if lacking := [name for name in NEEDED if name not in names]:
        raise SessionError(
            f"{folder.id} is not published: it has no {lacking[0]}, without which nobody could compare it."
        )
    if len(files) > FILES_MOST:
        raise SessionError(f"{folder.id} is not published: it has {len(files):,} files, more than {FILES_MOST:,}.")
    return files


def _names(root: Path) -> Iterable[str]:
    for parent, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != REQUESTS)
        for name in sorted(files):
            if not name.startswith(".") and name not in LEFT:
                yield (Path(parent) / name).relative_to(root).as_posix()


def _digest(path: Path, most: int | None = None) -> str:
    """The SHA-256 of a file, or of so many of its first bytes."""
    digest, left = hashlib.sha256(), most
    with path.open("rb") as file:
        while chunk := file.read(CHUNK if left is None else min(CHUNK, left)):
            digest.update(chunk)
            left = None if left is None else left - len(chunk)
    return digest.hexdigest()


def _refuse_other(folder: SessionFolder, earlier: Manifest, url: str) -> None:
    """SessionError unless the journal here goes on from the one in the store, as that of a resumed session does."""
    theirs = earlier.file("journal.ndjson")
    ours = folder.journal
    if theirs is None or ours.stat().st_size < theirs.size or _digest(ours, theirs.size) != theirs.sha256:
        raise SessionError(
            f"{url} has another {folder.id} already, which this one does not go on from: it was not replaced; compare"
            " the two, and remove the one there if it is the wrong one."
        )


def _copy(folder: SessionFolder, manifest: Manifest, store: Published, report: Report) -> None:
    """Write every file and read it back. Raises StoreError, SessionError."""
    total, done = sum(file.size for file in manifest.files), 0

    def one(file: PublishedFile) -> int:
        name = manifest.object_name(file.name)
        store.objects.write(name, folder.path / file.name)
        digest = hashlib.sha256()
        for chunk in store.objects.chunks(name, file.size):
            digest.update(chunk)
        if digest.hexdigest() != file.sha256:
            raise SessionError(f"{file.name} of {folder.id} arrived in {store.url} changed: publish it again.")
        return file.size

    for size in _each(one, manifest.files):
        done += size
        report(Progress("publish", f"{folder.id}: copying", done, total, "bytes"))


def _each(copy: Callable[[PublishedFile], int], files: Sequence[PublishedFile]) -> Iterable[int]:
    """Some at once; after the first that fails, no other is begun."""
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        yield from pool.map(copy, files)
    finally:
        pool.shutdown(cancel_futures=True)


def _list_anew(store: Published) -> str:
    """Leave the rows of all manifests for listings to read at once; a sentence where that failed, or "".

    Two that do so at the same time may leave out each other's rows: a listing then reads those manifests themselves.
    """
    try:
        rows = [row for row in store.rows() if row.row.status in PUBLISHED]  # the others are looked at again
        store.objects.write(LISTED, msgspec.json.encode(Listed(rows=rows)))
    except SessionError as error:
        return f"It is published, but listing will be slow until the next publication: {error}"
    return ""


def _remove(revision: str, earlier: Manifest, store: Published) -> str:
    names = [name_of(earlier.id, revision), *(earlier.object_name(file.name) for file in earlier.files)]
    try:
        store.objects.remove(names)
    except SessionError as error:
        return f"What it replaces is still there: {error}"
    return ""
