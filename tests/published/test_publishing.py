"""Publishing to a shared folder and to a bucket, and reading what was published as if it were one's own."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sessions.disk.session_folder import SessionError
from sessions.disk.store import Store
from sessions.published.manifest import LISTED, Listed, name_of
from sessions.published.publish import publish
from sessions.published.published import Published
from tests.published.conftest import FIRST, SECOND, listed_in, names_in, objects_of, store_of
from tests.sessions.workplace import Said
from tests.tui.journals import write_session

Kasoku = Callable[..., Said]


def published(place: str, home: Path, *sessions: str) -> None:
    """Publish sessions of a home without the command line."""
    for session in sessions:
        publish(Store(home / "sessions").folder(session), Published(place, home), lambda _: None)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_one_publishes_another_lists_compares_shows_and_exports_as_it_was(
    place: str, mine: Path, theirs: Path, tmp_path: Path, kasoku: Kasoku
) -> None:
    said = kasoku(mine, "publish", FIRST, SECOND, "--store", place)
    assert (said.code, said.out.count(f" in {place}: ")) == (0, 2), said
    assert listed_in(kasoku(mine, "sessions", "--json", "--store", place)) == {SECOND: "", FIRST: ""}  # own ones first
    assert listed_in(kasoku(theirs, "sessions", "--json", "--store", place)) == {SECOND: place, FIRST: place}
    lines = kasoku(theirs, "sessions", "--store", place).out.splitlines()
    assert lines[0].endswith("in")
    assert all(line.endswith("store") for line in lines[1:])

    own = kasoku(mine, "compare", FIRST, SECOND, "--anyway", "--json")
    assert own.code == 0
    assert kasoku(theirs, "compare", FIRST, "bbbbbb", "--anyway", "--json", "--store", place) == own
    kept = {path.name for path in (theirs / "cache" / "store").rglob("*.*")}
    assert kept == {"session.json", "plan.json", "runs.parquet", "requests.parquet", "fidelity.parquet"}
    kept_whole = kasoku(theirs, "show", "first look", "--store", place)
    assert (kept_whole.code, kept_whole.out.splitlines()[-1]) == (0, place)

    for home, out in ((mine, "own"), (theirs, "store")):
        assert kasoku(home, "export", FIRST, "--out", str(tmp_path / out), "--store", place).code == 0
    assert snapshot(tmp_path / "store") == snapshot(tmp_path / "own")


def test_a_report_of_what_another_published_is_one_of_any_session(
    shared: str, mine: Path, theirs: Path, tmp_path: Path, kasoku: Kasoku
) -> None:
    published(shared, mine, FIRST)
    pages = [tmp_path / "own.md", tmp_path / "store.md"]
    for home, page in zip((mine, theirs), pages, strict=True):
        assert kasoku(home, "report", FIRST, "--out", str(page), "--store", shared).code == 0
    assert pages[0].read_text() == pages[1].read_text()


def test_nothing_is_written_to_a_store_but_by_publishing(
    shared: str, mine: Path, theirs: Path, tmp_path: Path, kasoku: Kasoku, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(shared, mine, FIRST)
    monkeypatch.setenv("KASOKU_STORE", shared)
    before = snapshot(Path(shared))
    for arguments in (
        ["sessions"],
        ["show", FIRST],
        ["compare", FIRST],
        ["replay", FIRST, "--speed", "100000"],
        ["export", FIRST, "--out", str(tmp_path / "out")],
    ):
        assert kasoku(theirs, *arguments).code == 0, arguments
    said = kasoku(theirs, "resume", FIRST, "--blocks", "+1")
    assert (said.code, said.out) == (2, "")
    assert f"{FIRST} is in the store {shared}, where nothing but `kasoku publish` changes anything" in said.err
    assert snapshot(Path(shared)) == before
    assert not (theirs / "sessions").exists()


def test_own_sessions_come_first_and_last_means_an_own_one(shared: str, mine: Path, tmp_path: Path) -> None:
    published(shared, mine, FIRST, SECOND)
    home = tmp_path / "third"
    (home / "sessions").mkdir(parents=True)
    shutil.copytree(mine / "sessions" / FIRST, home / "sessions" / FIRST)
    store = store_of(shared, home)
    assert store.folder("last").id == FIRST
    assert store.folder("20260225").id == FIRST
    assert store.folder(FIRST).is_own
    assert not store.folder("bbbbbb").is_own
    with pytest.raises(SessionError, match=f"no session 'nothing', here or in {shared}"):
        store.folder("nothing")


def test_a_session_without_its_manifest_is_none_and_can_be_published_then(
    place: str, mine: Path, theirs: Path, kasoku: Kasoku
) -> None:
    objects, missing = objects_of(place, mine), Published(place, theirs)
    published(place, mine, FIRST)
    found = Published(place, mine).manifest(FIRST)
    assert found is not None
    objects.remove([name_of(FIRST, found[0]), LISTED])
    assert objects.below(f"files/{FIRST}") == [found[1].content]
    assert missing.listed() == []
    assert missing.folder(FIRST) is None
    objects.write(f"manifests/a/{FIRST}.{'0' * 32}/half", b"")  # of a publisher that is at it
    assert missing.listed() == []
    published(place, mine, FIRST)
    assert [row.id for row in missing.listed()] == [FIRST]


def test_two_that_publish_at_once_are_both_listed(place: str, mine: Path, theirs: Path) -> None:
    gate, failed = threading.Barrier(2, timeout=120), []

    def one(session: str) -> None:
        try:
            store = Published(place, mine)
            gate.wait()
            publish(Store(mine / "sessions").folder(session), store, lambda _: None)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(session,)) for session in (FIRST, SECOND)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [row.id for row in Published(place, theirs).listed()] == [SECOND, FIRST]


def test_a_row_that_another_publisher_left_out_is_read_from_its_manifest(place: str, mine: Path, theirs: Path) -> None:
    published(place, mine, FIRST, SECOND)
    rows = Published(place, mine).rows()
    for left in ([], rows[:1], rows[1:]):
        objects_of(place, mine).write(LISTED, msgspec.json.encode(Listed(rows=left)))
        assert Published(place, theirs).rows() == rows
    objects_of(place, mine).write(LISTED, b"[1, 2")
    assert Published(place, theirs).rows() == rows


def test_a_listing_asks_for_few_things_however_many_sessions(
    shared: str, mine: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(shared, mine, FIRST, SECOND)
    store = Published(shared, theirs)
    asked: list[str] = []
    below, read = store.objects.below, store.objects.read

    def listed(prefix: str) -> list[str]:
        asked.append(prefix)
        return below(prefix)

    def got(name: str, most: int) -> bytes:
        asked.append(name)
        return read(name, most)

    monkeypatch.setattr(store.objects, "below", listed)
    monkeypatch.setattr(store.objects, "read", got)
    assert len(store.listed()) == 2
    assert sorted(asked) == [LISTED, *(f"manifests/{digit}" for digit in "0123456789abcdef")]


def test_what_changed_is_published_again_in_its_place(place: str, mine: Path, theirs: Path, kasoku: Kasoku) -> None:
    published(place, mine, FIRST)
    again = kasoku(mine, "publish", FIRST, "--store", place)
    assert (again.code, again.out) == (0, f"{FIRST} in {place}: is there already, as it is here\n")
    reader = Published(place, theirs)
    assert [row.name for row in reader.listed()] == ["first look"]
    Store(mine / "sessions").relabel(FIRST, name="second look")
    assert kasoku(mine, "publish", FIRST, "--store", place).code == 0
    objects = objects_of(place, mine)
    assert len(objects.below("manifests/a")) == len(objects.below(f"files/{FIRST}")) == 1
    folder = reader.folder(FIRST)  # known by its earlier manifest, which is gone
    assert folder is not None
    assert folder.read().name == "second look"
    assert [row.name for row in reader.listed()] == ["second look"]


def test_another_session_of_the_same_id_is_not_replaced(shared: str, mine: Path, theirs: Path, kasoku: Kasoku) -> None:
    published(shared, mine, FIRST)
    write_session(theirs, session=FIRST, name="somebody else's")
    before = snapshot(Path(shared))
    said = kasoku(theirs, "publish", FIRST, "--store", shared)
    assert (said.code, said.out) == (1, "")
    assert f"{shared} has another {FIRST} already, which this one does not go on from: it was not replaced" in said.err
    assert snapshot(Path(shared)) == before


def test_only_what_has_ended_is_published(shared: str, theirs: Path, kasoku: Kasoku) -> None:
    write_session(theirs, session=FIRST, ended=False)  # its conductor is gone: interrupted
    write_session(theirs, session=SECOND, status="stopped")
    said = kasoku(theirs, "publish", FIRST, SECOND, "--store", shared)
    assert said.code == 1
    assert f"{FIRST} is interrupted, and only sessions that were finished or stopped are published" in said.err
    assert said.out.startswith(f"{SECOND} in {shared}: ")
    lock = Store(theirs / "sessions").folder(SECOND).try_lock()
    assert lock is not None
    again = kasoku(theirs, "publish", SECOND, "--store", shared)
    assert (again.code, again.err.count("\n")) == (1, 1)
    assert f"{SECOND} is running: publish it once it has ended." in again.err


def test_viewers_requests_the_lock_its_host_and_hidden_files_stay_behind(shared: str, mine: Path, theirs: Path) -> None:
    folder = Store(mine / "sessions").folder(FIRST)
    folder.ask("stop")
    for name in (".ballast", "host.json"):
        (folder.path / name).write_bytes(b"x")
    published(shared, mine, FIRST)
    found = Published(shared, theirs).manifest(FIRST)
    assert found is not None
    names = {file.name for file in found[1].files}
    there = {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file()}
    assert there - names == {"lock", "host.json", ".ballast", "requests/stop"}
    assert names <= there


def test_without_a_store_there_is_nowhere_to_publish_to(mine: Path, kasoku: Kasoku) -> None:
    said = kasoku(mine, "publish", FIRST)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert (
        "There is no store to publish to: name a folder or s3://BUCKET/PREFIX with --store or KASOKU_STORE" in said.err
    )


def test_the_store_named_first_holds_for_the_command_after_it(
    shared: str, mine: Path, theirs: Path, kasoku: Kasoku
) -> None:
    published(shared, mine, FIRST)
    assert listed_in(kasoku(theirs, "--store", shared, "sessions", "--json")) == {FIRST: shared}
    assert json.loads(kasoku(theirs, "sessions", "--json").out) == []


def test_all_that_is_in_a_store_has_a_place_of_its_own(shared: str, mine: Path) -> None:
    published(shared, mine, FIRST)
    found = Published(shared, mine).manifest(FIRST)
    assert found is not None
    revision, manifest = found
    assert names_in(objects_of(shared, mine), "manifests") == [
        "manifests/a",
        f"manifests/a/{FIRST}.{revision}",
        f"manifests/a/{FIRST}.{revision}/manifest.json",
    ]
    assert {str(path.relative_to(shared)) for path in Path(shared).rglob("*") if path.is_file()} == {
        LISTED,
        name_of(FIRST, revision),
        *(manifest.object_name(file.name) for file in manifest.files),
    }


@pytest.mark.parametrize("mode", [0o2770, 0o755, 0o700])
def test_what_is_made_in_a_shared_folder_has_its_permissions(shared: str, mine: Path, mode: int) -> None:
    Path(shared).chmod(mode)
    before = os.umask(0o077)
    try:
        published(shared, mine, FIRST)
    finally:
        os.umask(before)
    found = {(path.is_dir(), path.stat().st_mode & 0o7777) for path in Path(shared).rglob("*")}
    assert found == {(True, mode), (False, mode & 0o666)}
