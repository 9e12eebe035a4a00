"""The row that a listing shows per session; with many sessions, rows are cached until their session.json changes."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from methods.base.bounded_read import read_regular
from methods.base.home import CACHE, HomeError, private_folder, write_atomically
from sessions.disk.host_file import is_lost
from sessions.disk.messages import Int64
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import UNFINISHED, SessionError, SessionFile, SessionFolder

KEPT_NAME: Final = "listed-sessions.msgpack"
KEPT_VERSION: Final = 3
KEEP_FROM: Final = 200  # sessions; fewer are read faster than it is worth a file
WRITE_FROM: Final = 32  # rows read anew; fewer are read faster again than the file is written
UNREADABLE: Final = "unreadable"
SETTLED_NS: Final = 2_000_000_000  # a file changed later than this could change again within one step of its clock


class SessionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A session as a listing shows it; `problem` is a sentence if it cannot be opened, otherwise empty. `store` names
    the team's store that it is in, and is empty for one of this home; `host` names the one that measures it, if that is
    another, and `lost` says that this is at work out of reach."""

    id: str
    status: str
    created_ns: Int64
    name: str
    tags: tuple[str, ...]
    model: str
    device: str
    methods: tuple[str, ...]
    requests: int
    blocks: int
    best: str  # the method with the highest mean tokens/s
    best_tok_s: float | None
    problem: str
    store: str = ""
    host: str = ""
    lost: bool = False


class _Kept(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row with the inode, time of change and size of its session.json when it was read."""

    inode: int
    changed_ns: int
    size: int
    row: SessionRow


class _KeptRows(msgspec.Struct, array_like=True):
    version: tuple[int, int] = (KEPT_VERSION, SCHEMA_VERSION)
    rows: list[_Kept] = []


def listed(sessions: Path, ids: Sequence[str]) -> list[SessionRow]:
    """The rows of these sessions, in that order; an unreadable one is a row that says why."""
    path = sessions.parent / CACHE / KEPT_NAME
    kept = _load(path) if len(ids) >= KEEP_FROM else {}
    settled = time.time_ns() - SETTLED_NS
    rows: list[SessionRow] = []
    keep: list[_Kept] = []
    anew = 0
    for name in ids:
        known = kept.get(name)
        at = _look(f"{sessions}/{name}/session.json")
        if known is None or at is None or (known.inode, known.changed_ns, known.size) != at:
            anew += 1
            row = _read(SessionFolder(sessions / name))
            known = _Kept(*at, row) if at is not None and at[1] < settled and row.status != UNREADABLE else None
        else:
            row = known.row
        if known is not None:
            keep.append(known)
        rows.append(_as_of_now(sessions, row) if row.status in UNFINISHED else row)
    if len(ids) >= KEEP_FROM and anew >= WRITE_FROM:
        _write(path, keep)
    return rows


def _look(path: str) -> tuple[int, int, int] | None:
    """Inode, time of change and size of a plain file; None where there is none."""
    try:
        seen = os.stat(path, follow_symlinks=False)  # noqa: PTH116 - thousands of files
    except OSError:
        return None
    return (seen.st_ino, seen.st_mtime_ns, seen.st_size) if stat.S_ISREG(seen.st_mode) else None


def _read(folder: SessionFolder) -> SessionRow:
    try:
        return listed_row(folder, folder.read())
    except SessionError as error:
        return SessionRow(folder.id, UNREADABLE, 0, "", (), "", "", (), 0, 0, "", None, str(error))


def _as_of_now(sessions: Path, row: SessionRow) -> SessionRow:
    """Unfinished and unlocked means interrupted."""
    folder = SessionFolder(sessions / row.id)
    if not folder.is_live():
        return msgspec.structs.replace(row, status="interrupted")
    return msgspec.structs.replace(row, lost=is_lost(folder.path)) if row.host else row


def _load(path: Path) -> Mapping[str, _Kept]:
    try:
        found = msgspec.msgpack.decode(read_regular(path), type=_KeptRows)
    except (OSError, msgspec.DecodeError, ValueError, RecursionError):
        return {}
    return {each.row.id: each for each in found.rows} if found.version == (KEPT_VERSION, SCHEMA_VERSION) else {}


def _write(path: Path, keep: list[_Kept]) -> None:
    with contextlib.suppress(HomeError):  # on a full disk the sessions are read again
        private_folder(path.parent)
        write_atomically(path, msgspec.msgpack.encode(_KeptRows(rows=keep)))


def listed_row(folder: SessionFolder, session: SessionFile) -> SessionRow:
    """What a listing shows of a session, its status as written."""
    plan = session.plan
    rates = [(row.tok_s_mean, row.method) for row in session.summary if row.tok_s_mean is not None]
    best_tok_s, best = max(rates, key=lambda rate: rate[0], default=(None, ""))
    return SessionRow(
        id=folder.id,
        status=session.status,
        created_ns=session.created_ns,
        name=session.name,
        tags=tuple(session.tags),
        model=plan.model,
        device=plan.device,
        methods=tuple(method.name for method in plan.methods),
        requests=plan.requests,
        blocks=plan.blocks,
        best=best,
        best_tok_s=best_tok_s,
        problem=session.error,
        host=session.host,
    )
