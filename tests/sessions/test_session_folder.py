"""A session's folder: its lock, its requests, and the store that lists all of them."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.base.clock import boot_id
from probes.gpu.facts import GpuFacts
from probes.machine import Machine
from sessions.device.device_lock import DeviceLock
from sessions.disk.session_folder import ID_PATTERN, SessionError, SessionFolder, create, new_id
from sessions.disk.store import Store
from sessions.run.steering import Steering
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("folder")):
        work.method("one")
        yield work


@pytest.fixture
def made(work: Workplace) -> Iterator[SessionFolder]:
    """A folder as `kasoku run` makes it, its lock given up."""
    folder, lock = create(work.home / "sessions", work.plan("one"))
    os.close(lock)
    yield folder
    if folder.path.exists():
        Store(folder.path.parent).delete(folder.id)


def test_ids_sort_by_time_and_never_meet() -> None:
    ids = [new_id(1_700_000_000 + second) for second in range(0, 200_000, 7_000)]
    assert ids == sorted(ids)
    assert all(ID_PATTERN.fullmatch(name) for name in ids)
    assert len({new_id(1_700_000_000) for _ in range(200)}) > 190


def test_what_is_made_can_be_read_back_and_is_the_users_alone(work: Workplace, made: SessionFolder) -> None:
    session = made.read()
    assert (session.id, session.status) == (made.id, "preparing")
    assert session.plan == made.plan() == work.plan("one")
    assert session.clock_anchors is not None
    assert session.clock_anchors.boot_id == boot_id()
    assert abs(session.clock_anchors.realtime_ns - session.created_ns) / 1e9 < 60
    assert 0 <= time.perf_counter_ns() - session.clock_anchors.monotonic_ns < 60e9
    assert abs(session.created_ns / 1e9 - time.time()) < 60
    for path in [made.path, *made.path.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_machine_of_another_version_is_read_and_one_of_another_kind_is_a_sentence(made: SessionFolder) -> None:
    path = made.path / "session.json"
    written = json.loads(path.read_bytes())

    def read(machine: object) -> Machine:
        path.write_text(json.dumps(written | {"machine": machine}))
        return made.read().machine

    assert read({}) == Machine()
    gpus = [{"source": "gpu0", "name": "a GPU", "index": 0}]
    assert read({"cpu_model": "a CPU", "sockets": 2, "gpus": gpus}) == Machine(
        cpu_model="a CPU", gpus=(GpuFacts(source="gpu0", name="a GPU"),)
    )
    for wrong in ("a CPU", {"cpu_model": 3}, {"gpus": {"gpu0": "a GPU"}}, {"cores_logical": "two"}):
        with pytest.raises(SessionError, match="is damaged"):
            read(wrong)


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("plan", None),
        ("plan", {"methods": [{"name": "\x1b[31m", "engine": "e", "environment": "t"}]}),
        ("plan", {"dtype": "\x1b[31m"}),
        ("plan", {"requests": "many"}),
        ("plan", {"sampling": [0.5]}),
        ("software", {"kasoku": 1}),
        ("clock_anchors", {"monotonic_ns": "now"}),
        ("summary", [{"method": None, "tok_s_mean": 1.0}]),
        ("summary", [{"method": "one", "tok_s_mean": True}]),
    ],
)
def test_what_no_version_writes_is_damaged(made: SessionFolder, key: str, wrong: object) -> None:
    path = made.path / "session.json"
    written = json.loads(path.read_bytes())
    path.write_text(json.dumps(written | {key: wrong, "from_later": 1}))
    with pytest.raises(SessionError, match="is damaged") as said:
        made.read()
    assert "\x1b" not in str(said.value)


def test_the_lock_is_one_at_a_time_and_says_who_lives(made: SessionFolder) -> None:
    assert not made.is_live()
    lock = made.try_lock()
    assert lock is not None
    assert made.is_live()
    assert made.try_lock() is None
    os.close(lock)
    assert not made.is_live()


def test_a_viewer_that_only_looks_does_not_keep_another_from_the_lock(made: SessionFolder) -> None:
    """is_live holds the lock, shared, for a moment: here for one that can be seen."""
    looking = os.open(made.path / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.03, os.close, [looking]).start()
    lock = made.try_lock()
    assert lock is not None
    os.close(lock)


def test_the_lock_outlives_the_viewer_that_made_it(work: Workplace) -> None:
    """The conductor takes the open file over, so that a live session never looks abandoned."""
    folder = work.launch("one", max_new_tokens=500)
    for _ in range(200):
        assert folder.is_live()
    folder.ask("stop")
    work.finished(folder)


def test_requests_are_taken_once_and_in_the_order_of_their_names(made: SessionFolder) -> None:
    assert made.take_asked() == []
    for action in ("stop", "skip-one-0", "skip-a-b-12"):
        made.ask(action)
    steering = Steering(made)
    taken = steering.look()
    assert sorted(taken, key=str) == [("skip", "a-b", 12), ("skip", "one", 0), ("stop", None, None)]
    assert (steering.stop, steering.skips) == (True, {("a-b", 12), ("one", 0)})
    assert made.take_asked() == []


def test_looking_for_requests_happens_at_most_five_times_a_second(made: SessionFolder) -> None:
    steering = Steering(made)
    assert steering.look() == []
    made.ask("stop")
    assert steering.look() == [], "it looked a moment ago"
    until = time.monotonic() + 5
    while not steering.look():
        assert time.monotonic() < until


def test_a_running_session_is_neither_deleted_nor_renamed(made: SessionFolder) -> None:
    store = Store(made.path.parent)
    lock = made.try_lock()
    assert lock is not None
    with pytest.raises(SessionError, match="is running: `kasoku stop"):
        store.delete(made.id)
    with pytest.raises(SessionError, match="is running"):
        store.relabel(made.id, name="x")
    os.close(lock)
    store.relabel(made.id, name=" a name ", tags=["b", "a", "b", " "])
    assert (made.read().name, made.read().tags) == ("a name", ["a", "b"])
    store.delete(made.id)
    assert not made.path.exists()


def test_the_store_lists_newest_first_and_what_is_unfinished_and_unlocked_as_interrupted(made: SessionFolder) -> None:
    store = Store(made.path.parent)
    (made.path.parent / "not-a-session").mkdir()
    older = made.path.parent / "20200101-000000-000000"
    older.mkdir()
    rows = store.listed()
    assert [row.id for row in rows] == sorted((row.id for row in rows), reverse=True)
    assert rows[-1].id == older.name
    assert (rows[-1].status, "no session.json" in rows[-1].problem) == ("unreadable", True)
    row = next(row for row in rows if row.id == made.id)
    assert (row.status, row.methods, row.requests, row.blocks) == ("interrupted", ("one",), 1, 1)
    lock = made.try_lock()
    assert lock is not None
    assert next(row for row in store.listed() if row.id == made.id).status == "preparing"
    assert store.live() == [made.id]
    os.close(lock)
    older.rmdir()
    (made.path.parent / "not-a-session").rmdir()


def test_a_session_named_by_a_part_that_fits_several_is_refused(made: SessionFolder) -> None:
    store = Store(made.path.parent)
    twin = made.path.with_name(made.id[:-1] + ("0" if made.id[-1] != "0" else "1"))
    twin.mkdir()
    with pytest.raises(SessionError, match="matches 2 sessions"):
        store.folder(made.id[:-1])
    twin.rmdir()
    assert store.folder(made.id[:-1]).id == made.id


def test_devices_are_held_all_or_none(tmp_path: Path) -> None:
    first, second, third = DeviceLock(["a"], "first"), DeviceLock(["b", "a"], "second"), DeviceLock(["b"], "third")
    assert first.try_take(tmp_path) is None
    assert second.try_take(tmp_path) == "first"
    assert third.try_take(tmp_path) is None, "what is not had wholly is not held at all"
    third.release()
    first.release()
    assert second.try_take(tmp_path) is None
    assert first.try_take(tmp_path) == "second"
    second.release()


def test_a_device_lock_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "devices" / "cpu").mkdir(parents=True)
    with pytest.raises(SessionError, match=r"devices/cpu cannot be opened \(Is a directory\)"):
        DeviceLock(["cpu"], "me").try_take(tmp_path)
