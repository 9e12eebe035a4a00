"""What comes from a store is foreign: it leads nowhere, fills nothing, runs nothing, and is read only as published."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl
import pytest

from sessions.disk.listing import SessionRow
from sessions.disk.session_folder import SessionError
from sessions.disk.store import Store
from sessions.published.manifest import (
    LISTED,
    Listed,
    ListedRow,
    Manifest,
    PublishedFile,
    encoded,
    name_of,
    revision_of,
)
from sessions.published.publish import publish
from sessions.published.published import Published
from tests.published.conftest import FIRST, SECOND
from tests.security.hostile_session import HOSTILE
from tests.sessions.workplace import Said

Kasoku = Callable[..., Said]


@pytest.fixture
def place(shared: str, mine: Path) -> str:
    """A store in a folder with one session in it."""
    publish(Store(mine / "sessions").folder(FIRST), Published(shared, mine), lambda _: None)
    return shared


def manifest_of(place: str, home: Path, session: str = FIRST) -> tuple[str, Manifest]:
    found = Published(place, home).manifest(session)
    assert found is not None
    return found


def replaced(place: str, home: Path, **changes: object) -> Manifest:
    """Have another manifest in the place of the session's, whole in itself, as one with rights to the store could."""
    revision, manifest = manifest_of(place, home)
    objects = Published(place, home).objects
    changed = msgspec.structs.replace(manifest, **changes)
    objects.remove([name_of(FIRST, revision)])
    own, content = encoded(changed)
    objects.write(name_of(FIRST, own), content)
    return changed


def with_file(place: str, home: Path, name: str, content: bytes) -> None:
    """Have other content in the place of a file, and a manifest that says so."""
    _, manifest = manifest_of(place, home)
    entry = PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())
    files = [file for file in manifest.files if file.name != name] + [entry]
    changed = replaced(place, home, files=files)
    objects = Published(place, home).objects
    for file in files:
        there = Path(place) / manifest.object_name(file.name)
        objects.write(changed.object_name(file.name), content if file.name == name else there.read_bytes())


def opened(place: str, home: Path) -> object:
    folder = Published(place, home).folder(FIRST)
    assert folder is not None
    return folder.read()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"files": [PublishedFile("../../escaped", 1, "0" * 64)]}, r"names a file '\.\./\.\./escaped'"),
        ({"files": [PublishedFile("/etc/passwd", 1, "0" * 64)]}, "names a file '/etc/passwd'"),
        ({"files": [PublishedFile("logs/../../x", 1, "0" * 64)]}, r"names a file 'logs/\.\./\.\./x'"),
        ({"files": [PublishedFile("a\nb", 1, "0" * 64)]}, "names a file"),
        ({"files": [PublishedFile(".ballast", 1, "0" * 64)]}, "names a file"),
        ({"files": [PublishedFile("plan.json", 1, "0" * 64)] * 2}, "names 2 files, or one of them twice"),
        ({"files": []}, r"lacks plan\.json"),
        ({"id": SECOND}, "is of another session"),
    ],
)
def test_a_manifest_that_leads_elsewhere_is_not_opened(
    place: str, theirs: Path, changes: dict[str, object], sentence: str
) -> None:
    replaced(place, theirs, **changes)
    with pytest.raises(SessionError, match=f"{FIRST} is not opened: its manifest in the store {sentence}"):
        opened(place, theirs)
    assert not (theirs / "cache").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{}", "is not one that Kasoku writes"),
        (b"\xff\xfe", "is not one that Kasoku writes"),
        (b"[" * 100_000, "is not one that Kasoku writes"),
        (b'{"format": 99}', "was published by a newer Kasoku"),
    ],
)
def test_a_manifest_that_is_none_is_a_row_that_says_so(place: str, theirs: Path, content: bytes, sentence: str) -> None:
    revision, _ = manifest_of(place, theirs)
    objects = Published(place, theirs).objects
    objects.remove([name_of(FIRST, revision)])
    objects.write(name_of(FIRST, revision_of(content)), content)
    (row,) = Published(place, theirs).listed()
    assert (row.id, row.status) == (FIRST, "unreadable")
    assert sentence in row.problem


def test_a_manifest_that_was_changed_after_it_was_named_is_not_believed(place: str, theirs: Path) -> None:
    revision, _ = manifest_of(place, theirs)
    path = Path(place) / name_of(FIRST, revision)
    path.write_bytes(path.read_bytes().replace(b"first look", b"other look"))
    (Path(place) / LISTED).unlink()
    (row,) = Published(place, theirs).listed()
    assert row.problem == f"The manifest of {FIRST} in the store was changed or damaged: publish the session again."


def test_a_file_that_is_not_what_was_published_is_not_read(
    place: str, mine: Path, theirs: Path, kasoku: Kasoku
) -> None:
    _, manifest = manifest_of(place, theirs)
    path = Path(place) / manifest.object_name("runs.parquet")
    whole = path.read_bytes()
    for content, sentence in (
        (whole[:-1], "has another size than was published"),
        (whole + b"x", "has another size than was published"),
        (whole[:-9] + b"X" + whole[-8:], f"runs.parquet of {FIRST} in {place} is not what was published"),
    ):
        path.write_bytes(content)
        said = kasoku(theirs, "compare", FIRST, "--json", "--store", place)
        assert said.code == 0
        rows = json.loads(said.out)
        assert all(sentence in row["problem"] and row["tok_s_mean"] is None for row in rows), rows
        assert not list((theirs / "cache").rglob("runs.parquet"))
        assert not list((theirs / "cache").rglob("*.tmp"))
    path.unlink()
    with pytest.raises(SessionError, match=r"runs\.parquet of .* is not in .* any more"):
        Store(theirs / "sessions", Published(place, theirs)).at(FIRST).frame("runs")


@pytest.mark.parametrize("what", ["link", "linked folder", "pipe"])
def test_links_and_pipes_in_a_shared_folder_are_not_followed(
    place: str, mine: Path, theirs: Path, tmp_path: Path, what: str
) -> None:
    _, manifest = manifest_of(place, theirs)
    path = Path(place) / manifest.object_name("session.json")
    copied = tmp_path / "precious"
    shutil.copytree(path.parent, copied)  # with the very bytes
    if what == "linked folder":
        shutil.rmtree(path.parents[1])
        path.parents[1].symlink_to(copied)
    else:
        path.unlink()
        os.mkfifo(path) if what == "pipe" else path.symlink_to(copied / "session.json")
    with pytest.raises(SessionError, match=r"not a file, so it did not come|There is a link in|is not in .* any more"):
        opened(place, theirs)
    if what == "linked folder":  # nor in writing
        Store(mine / "sessions").relabel(FIRST, name="second look")
        before = sorted(copied.rglob("*"))
        with pytest.raises(SessionError, match=r"You cannot write to it in the store .*: not a directory"):
            publish(Store(mine / "sessions").folder(FIRST), Published(place, mine), lambda _: None)
        assert sorted(copied.rglob("*")) == before


def test_names_in_a_store_that_no_kasoku_writes_are_passed_over(place: str, mine: Path, theirs: Path) -> None:
    shard = Path(place) / "manifests" / "a"
    for name in (
        "x",
        f"{FIRST}",
        f"{FIRST}.{'g' * 32}",
        f"{FIRST}.{'0' * 31}",
        f"{SECOND}.{'0' * 32}",
        "=1+1",
        "\x1b[2J",
    ):
        (shard / name).mkdir()
    (shard / f"{FIRST[:-1]}b.{'0' * 32}").mkdir()  # of another shard
    (shard / f"20260225-060000-00000a.{'0' * 32}").write_text("no folder")
    assert [row.id for row in Published(place, theirs).listed()] == [FIRST]


def test_rows_that_no_kasoku_leaves_are_not_shown(place: str, mine: Path, theirs: Path) -> None:
    revision, manifest = manifest_of(place, theirs)
    rows = Published(place, theirs).rows()
    objects = Published(place, mine).objects
    for row in (
        msgspec.structs.replace(manifest.row, status="running"),
        msgspec.structs.replace(manifest.row, id="../../x"),
    ):
        objects.write(LISTED, msgspec.json.encode(Listed(rows=[ListedRow(revision, 1, row)])))
        assert Published(place, theirs).rows() == rows
    for raw in (b"NaN", b'{"rows": [[1e400]]}', b"\xff", b"[" * 1000, b'{"format": 2, "rows": 5}'):
        objects.write(LISTED, raw)
        assert Published(place, theirs).rows() == rows


def test_texts_of_a_store_are_shown_without_what_controls_a_terminal(
    place: str, mine: Path, theirs: Path, kasoku: Kasoku
) -> None:
    row = msgspec.structs.replace(
        manifest_of(place, theirs)[1].row, name=HOSTILE, tags=(HOSTILE,), model=HOSTILE, best=HOSTILE, problem=HOSTILE
    )
    assert isinstance(row, SessionRow)
    replaced(place, theirs, row=row)
    for arguments in (["sessions"], ["sessions", "--json"]):
        said = kasoku(theirs, *arguments, "--store", place)
        assert said.code == 0
        assert FIRST in said.out
        assert not [letter for letter in said.out.replace("\n", "") if not letter.isprintable()], said.out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"id": SECOND}, "is of another session, or has not ended"), ({"status": "running"}, "or has not ended")],
)
def test_a_session_that_is_not_what_its_manifest_says_is_not_opened(
    place: str, mine: Path, theirs: Path, changes: dict[str, object], sentence: str
) -> None:
    file = Store(mine / "sessions").folder(FIRST).read()
    with_file(place, theirs, "session.json", msgspec.json.encode(msgspec.structs.replace(file, **changes)))
    with pytest.raises(SessionError, match=sentence):
        opened(place, theirs)


def test_a_frame_of_more_rows_than_its_bytes_can_hold_is_not_read(
    place: str, theirs: Path, tmp_path: Path, kasoku: Kasoku
) -> None:
    bomb = tmp_path / "bomb.parquet"
    pl.select(pl.repeat(0, 3_000_000, dtype=pl.Int64).alias("t_ns")).write_parquet(bomb)
    with_file(place, theirs, "tokens.parquet", bomb.read_bytes())
    said = kasoku(theirs, "export", FIRST, "--out", str(tmp_path / "out"), "--store", place)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "tokens.parquet of" in said.err
    assert "3,000,000 rows in" in said.err


@pytest.mark.usefixtures("nothing_starts")
def test_a_plan_from_a_store_is_never_carried_out(place: str, theirs: Path, kasoku: Kasoku) -> None:
    for arguments in (["--blocks", "+1"], ["--blocks", "+1", "--anyway"]):
        said = kasoku(theirs, "--store", place, "resume", FIRST, *arguments)
        assert (said.code, said.out) == (2, "")
        assert "where nothing but `kasoku publish` changes anything" in said.err
