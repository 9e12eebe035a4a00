"""What says that a session is in a store, written when all of it is there: its files, their sizes and digests.

A store holds

    manifests/SHARD/ID.REVISION/manifest.json   the revision is the digest of the manifest itself
    files/ID/CONTENT/NAME                       the content is the digest of the manifest's list of files
    listed.json                                 the rows of the manifests as of the last publication, to be read at once

The shard is the ID's last digit, so that a listing can ask for sixteen parts at once. Everything read here is foreign.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from sessions.disk.listing import SessionRow
from sessions.disk.messages import Int64
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import ALWAYS, FRAMES, ID_PATTERN, NewerSessionError, SessionError, newer

PUBLISHED: Final = ("finished", "stopped")  # the statuses that a session in a store has
MANIFESTS, FILES, LISTED = "manifests", "files", "listed.json"
SHARDS: Final = "0123456789abcdef"
FORMAT: Final = 1
REVISION: Final = re.compile(r"[0-9a-f]{32}")
FILE_NAME: Final = re.compile(r"(?:logs/)?[A-Za-z0-9][A-Za-z0-9._@+-]{0,199}")
FRAME_FILES: Final = tuple(f"{frame}.parquet" for frame in FRAMES)
NEEDED: Final = ("plan.json", "session.json", "journal.ndjson", *(f"{frame}.parquet" for frame in ALWAYS))
MANIFEST_MOST: Final = 4 << 20  # bytes
LISTED_MOST: Final = 64 << 20
FILES_MOST: Final = 10_000
FILE_MOST: Final = 16 << 30
FRAME_MOST: Final = 2 << 30

Size = Annotated[int, msgspec.Meta(ge=0, le=FILE_MOST)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class PublishedFile(msgspec.Struct, frozen=True):
    """One file of a session: its name below the session's folder, bytes, and SHA-256 in hexadecimal."""

    name: str
    size: Size
    sha256: Digest


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`published_ns` is wall-clock ns since the epoch, `schema_version` that of the session's own files."""

    format: int = FORMAT
    id: str
    schema_version: int = SCHEMA_VERSION
    published_ns: Int64
    row: SessionRow
    files: list[PublishedFile]

    @property
    def content(self) -> str:
        """The digest of its list of files."""
        listed = sorted((file.name, file.size, file.sha256) for file in self.files)
        return hashlib.sha256(msgspec.json.encode(listed)).hexdigest()[:32]

    def file(self, name: str) -> PublishedFile | None:
        """Its entry of that name."""
        return next((file for file in self.files if file.name == name), None)

    def object_name(self, name: str) -> str:
        """Where a file of it is in the store."""
        return f"{FILES}/{self.id}/{self.content}/{name}"


class ListedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a manifest without reading it."""

    revision: str
    published_ns: Int64
    row: SessionRow


class Listed(msgspec.Struct, frozen=True):
    """The content of listed.json."""

    format: int = FORMAT
    rows: list[ListedRow] = []


class _Formatted(msgspec.Struct, frozen=True):
    format: int = FORMAT
    schema_version: int = SCHEMA_VERSION


def encoded(manifest: Manifest) -> tuple[str, bytes]:
    """A manifest's revision and its bytes."""
    content = msgspec.json.encode(manifest)
    return revision_of(content), content


def revision_of(content: bytes) -> str:
    """The digest that a manifest is named by."""
    return hashlib.sha256(content).hexdigest()[:32]


def name_of(session: str, revision: str) -> str:
    """Where a manifest is in the store."""
    return f"{MANIFESTS}/{session[-1]}/{session}.{revision}/manifest.json"


def named(part: str) -> tuple[str, str] | None:
    """The session and the revision that a name in a shard stands for; None for what no Kasoku writes."""
    session, _, revision = part.partition(".")
    return (session, revision) if ID_PATTERN.fullmatch(session) and REVISION.fullmatch(revision) else None


def decoded(session: str, revision: str, content: bytes) -> Manifest:
    """A manifest that is what its name says, with names that cannot lead anywhere. Raises SessionError."""
    if revision_of(content) != revision:
        raise SessionError(f"The manifest of {session} in the store was changed or damaged: publish the session again.")
    try:
        written = msgspec.json.decode(content, type=_Formatted)
        if written.schema_version > SCHEMA_VERSION:
            raise NewerSessionError(newer(session, written.schema_version))
        if written.format > FORMAT:
            raise NewerSessionError(f"{session} was published by a newer Kasoku: update Kasoku to open it.")
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SessionError(f"The manifest of {session} in the store is not one that Kasoku writes.") from None
    if fault := _fault(session, manifest):
        raise SessionError(f"{session} is not opened: its manifest in the store {fault}, which no Kasoku writes.")
    return manifest


def _fault(session: str, manifest: Manifest) -> str:
    if manifest.id != session or manifest.row.id != session:
        return "is of another session"
    if manifest.row.status not in PUBLISHED:
        return "says that it has not ended"
    names = [file.name for file in manifest.files]
    if len(names) > FILES_MOST or len(set(names)) != len(names):
        return f"names {len(names)} files, or one of them twice"
    if wrong := [name for name in names if not is_file_name(name)]:
        return f"names a file {wrong[0][:80]!r}"
    if lacking := [name for name in NEEDED if name not in names]:
        return f"lacks {lacking[0]}"
    if any(file.size > FRAME_MOST for file in manifest.files if file.name in FRAME_FILES):
        return f"has a frame of more than {FRAME_MOST >> 30} GiB"
    return ""


def is_file_name(name: str) -> bool:
    """Whether a file of a session may be called so: it leads nowhere but into the session's folder."""
    return FILE_NAME.fullmatch(name) is not None


def decoded_rows(content: bytes) -> Sequence[ListedRow]:
    """The rows of listed.json; none of one that is damaged, or of another format."""
    try:
        found = msgspec.json.decode(content, type=Listed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    return found.rows if found.format == FORMAT else ()
