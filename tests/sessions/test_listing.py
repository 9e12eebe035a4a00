"""The rows of a long list are kept until a session changes, and a listing never shows an old one."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from methods.base.home import CACHE
from sessions.disk import listing
from sessions.disk.host_file import OnHost, write_host
from sessions.disk.listing import KEPT_NAME, SETTLED_NS, SessionRow
from sessions.disk.session_folder import MethodSummary, SessionFolder, create
from sessions.disk.store import Store
from tests.tui.journals import make_plan

COUNT = 5


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "KEEP_FROM", COUNT)
    monkeypatch.setattr(listing, "WRITE_FROM", 1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Finished sessions that were last changed a while ago."""
    for number in range(COUNT):
        folder, lock = create(tmp_path / "sessions", make_plan())
        os.close(lock)
        summary = [MethodSummary(method="baseline", tok_s_mean=10.0 + number), MethodSummary(method="vllm")]
        changed = msgspec.structs.replace(folder.read(), status="finished", name=f"number {number}", summary=summary)
        folder.write(changed)
        settle(folder)
    return Store(tmp_path / "sessions")


def settle(folder: SessionFolder, seconds: int = 60) -> None:
    """As if session.json had been written that long ago."""
    path = folder.path / "session.json"
    moment = path.stat().st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(moment, moment))


def kept(store: Store) -> Path:
    return store.path.parent / CACHE / KEPT_NAME


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the sessions whose session.json is read."""
    seen: list[str] = []
    plain = SessionFolder.read

    def read(folder: SessionFolder) -> object:
        seen.append(folder.id)
        return plain(folder)

    monkeypatch.setattr(SessionFolder, "read", read)
    return seen


def test_the_second_list_reads_no_session_and_says_the_same(store: Store, reads: list[str]) -> None:
    first = store.listed()
    assert len(reads) == COUNT
    assert sorted(row.name for row in first) == [f"number {number}" for number in range(COUNT)]
    assert {row.best for row in first} == {"baseline"}
    assert store.listed() == first
    assert len(reads) == COUNT
    assert kept(store).stat().st_mode & 0o077 == 0


def test_a_session_that_changed_is_read_again_and_one_that_is_gone_is_gone(store: Store, reads: list[str]) -> None:
    newest, *_, oldest = store.listed()
    store.relabel(oldest.id, name="another name")
    store.delete(newest.id)
    reads.clear()
    rows = store.listed()
    assert [row.id for row in rows if row.name == "another name"] == [oldest.id]
    assert newest.id not in {row.id for row in rows}
    assert set(reads) <= {row.id for row in rows}


def test_a_change_within_the_clocks_step_is_seen(store: Store) -> None:
    """Two versions of a file that differ in nothing but their content, as where the disk's clock is coarse."""
    folder = store.folder("last")
    path = folder.path / "session.json"
    store.relabel(folder.id, name="first")
    before = path.stat()
    assert store.listed()[0].name == "first"
    text = path.read_bytes().replace(b'"first"', b'"other"')
    with path.open("r+b") as file:
        file.write(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_ino, path.stat().st_size) == (before.st_ino, before.st_size)
    assert store.listed()[0].name == "other"
    assert SETTLED_NS >= 10**9


def test_a_running_session_and_an_interrupted_one_are_told_apart_each_time(store: Store) -> None:
    folder = store.folder("last")
    folder.write(msgspec.structs.replace(folder.read(), status="running"))
    settle(folder)
    assert store.listed()[0].status == "interrupted"
    lock = folder.try_lock()
    assert lock is not None
    assert store.listed()[0].status == "running"
    os.close(lock)
    assert store.listed()[0].status == "interrupted"


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\xff" * 100, msgspec.msgpack.encode([[99, 1], []])])
def test_kept_rows_that_are_damaged_or_of_another_version_are_not_believed(store: Store, content: bytes) -> None:
    expected = store.listed()
    kept(store).write_bytes(content)
    assert store.listed() == expected
    assert kept(store).read_bytes() != content


def test_a_session_that_cannot_be_read_is_not_kept(store: Store) -> None:
    folder = store.folder("last")
    whole = (folder.path / "session.json").read_bytes()
    (folder.path / "session.json").write_bytes(b"{")
    settle(folder)
    assert store.listed()[0].status == "unreadable"
    (folder.path / "session.json").write_bytes(whole)
    assert store.listed()[0].status == "finished"


def test_a_home_in_which_nothing_can_be_written_is_listed_all_the_same(store: Store) -> None:
    (store.path.parent / CACHE).write_text("in the way")
    assert len(store.listed()) == len(store.listed()) == COUNT


def test_a_short_list_leaves_no_file(store: Store) -> None:
    store.delete("last")
    assert len(store.listed()) == COUNT - 1
    assert not kept(store).exists()


def test_a_whole_id_is_found_without_a_look_at_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    session = store.ids()[2]
    monkeypatch.setattr(Store, "ids", lambda self: pytest.fail("it looked at all of them"))
    assert store.folder(session).id == session


def test_a_session_whose_host_is_out_of_reach_says_so_until_it_is_over(store: Store) -> None:
    session = store.ids()[0]
    folder = store.folder(session)
    folder.write(msgspec.structs.replace(folder.read(), status="running", host="h100"))
    host = OnHost(on="ray://head:10001", host="h100", resource="box", folder="/there", lost_ns=1)
    lock = folder.try_lock()
    assert lock is not None
    for where, lost in ((host, True), (msgspec.structs.replace(host, lost_ns=None), False)):
        write_host(folder.path, where)
        assert [(row.host, row.lost) for row in store.listed() if row.host] == [("h100", lost)]
    write_host(folder.path, host)
    os.close(lock)
    assert [(row.status, row.lost) for row in store.listed() if row.host] == [("interrupted", False)]


def test_a_row_is_a_document() -> None:
    row = SessionRow("i", "finished", 1, "n", ("t",), "m", "cpu", ("a",), 2, 3, "a", 4.5, "")
    assert msgspec.structs.asdict(row)["methods"] == ("a",)
