"""Whatever has become of a session's files, opening it gives a session or a sentence, and never an exception."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessions.close.session_end import close_session, recover
from sessions.disk.journal import JournalError, JournalWriter, read_journal
from sessions.disk.records import SCHEMA_VERSION, BlockEnded, Note, SessionEnded, Tokens
from sessions.disk.session_folder import FRAMES, SessionError, SessionFolder
from sessions.disk.store import Store
from sessions.watch.following import Follower
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace

STATUSES = ("finished", "stopped", "failed", "interrupted")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    yield from opened(tmp_path_factory.mktemp("closing"))


@pytest.fixture(scope="module")
def whole(work: Workplace) -> SessionFolder:
    """A session that ended well: two methods, two blocks."""
    work.method("one")
    work.method("two", reference="one", rate=900.0)
    folder = work.run("one", "two", blocks=2, requests=2, warmup=1)
    assert folder.read().status == "finished"
    return folder


@pytest.fixture(scope="module")
def closed(whole: SessionFolder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it under an id of its own, closed as such, and kept where no session is looked for."""
    folder = SessionFolder(whole.path.with_name(f"{whole.id[:-6]}c0c0c0"))
    shutil.copytree(whole.path, folder.path)
    folder.write(msgspec.structs.replace(folder.read(), id=folder.id))
    close_session(folder, "finished")
    return Path(shutil.move(folder.path, tmp_path_factory.mktemp("closed")))


@pytest.fixture
def copied(whole: SessionFolder, closed: Path) -> Iterator[SessionFolder]:
    """That copy beside the whole one, to be damaged, and gone afterwards."""
    folder = SessionFolder(whole.path.with_name(closed.name))
    shutil.copytree(closed, folder.path)
    yield folder
    shutil.rmtree(folder.path, ignore_errors=True)


def unfinish(folder: SessionFolder, cut: int | None = None) -> None:
    """As its conductor would have left it, had it been killed: status running, no frames, the journal cut."""
    folder.write(msgspec.structs.replace(folder.read(), status="running", summary=[], stretches=[], ended_ns=None))
    for name in FRAMES:
        folder.frame(name).unlink()
    if cut is not None:
        folder.journal.write_bytes(folder.journal.read_bytes()[:cut])


def without_its_end(folder: SessionFolder) -> int:
    """Where the last record, the session's end, begins."""
    return folder.journal.read_bytes().rindex(b"\n", 0, -1) + 1


def frames_of(folder: SessionFolder) -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(folder.frame(name)) for name in FRAMES}


def test_an_unfinished_session_that_nobody_works_on_is_interrupted_with_what_to_do(copied: SessionFolder) -> None:
    unfinish(copied, without_its_end(copied))
    assert recover(copied) == "interrupted"
    session = copied.read()
    assert session.status == "interrupted"
    assert f"`kasoku resume {copied.id}`" in session.error
    assert len(frames_of(copied)["runs"]) == 4
    assert [row.method for row in session.summary] == ["one", "two"]


def test_one_whose_journal_tells_its_end_has_that_end(copied: SessionFolder) -> None:
    unfinish(copied)
    assert recover(copied) == "finished"
    unfinish(copied, without_its_end(copied))
    writer = JournalWriter(copied.path)
    writer.append(SessionEnded(t=1, status="failed", error="The disk is full."))
    writer.close()
    assert recover(copied) == "failed"
    assert copied.read().error == "The disk is full."


def test_one_whose_conductor_was_killed_before_its_first_record_has_no_end_of_an_earlier_one(
    copied: SessionFolder,
) -> None:
    copied.write(msgspec.structs.replace(copied.read(), status="preparing", error=""))  # as `resume` leaves it
    assert recover(copied) == "interrupted"
    assert "kasoku resume" in copied.read().error


def test_one_that_a_conductor_works_on_is_left_alone(copied: SessionFolder) -> None:
    unfinish(copied)
    lock = copied.try_lock()
    assert lock is not None
    assert recover(copied) == "running"
    assert not copied.frame("runs").exists()
    os.close(lock)
    assert recover(copied) == "finished"


def test_frames_that_are_gone_are_built_again_as_they_were(copied: SessionFolder, whole: SessionFolder) -> None:
    for name in FRAMES:
        copied.frame(name).unlink()
    assert recover(copied) == "finished"
    for name, frame in frames_of(whole).items():
        again = frames_of(copied)[name].with_columns(pl.lit(whole.id).alias("session"))
        assert again.equals(frame), name


def test_closing_twice_gives_the_same_frames(copied: SessionFolder) -> None:
    before = frames_of(copied)
    close_session(copied, "finished")
    after = frames_of(copied)
    assert all(after[name].equals(before[name]) for name in FRAMES)


def test_a_journal_cut_anywhere_is_a_session_up_to_there(work: Workplace, copied: SessionFolder) -> None:
    raw = copied.journal.read_bytes()
    drawn = random.Random(3)  # noqa: S311
    for cut in [0, 1, *sorted(drawn.randrange(len(raw)) for _ in range(12))]:
        copied.journal.write_bytes(raw[:cut])
        for name in FRAMES:
            copied.frame(name).unlink(missing_ok=True)
        copied.write(msgspec.structs.replace(copied.read(), status="running"))
        assert recover(copied) == "interrupted", cut
        tokens = sum(len(record.ids) for record in read_journal(copied.journal) if isinstance(record, Tokens))
        assert len(frames_of(copied)["tokens"]) == tokens, cut
        assert work.command("show", copied.id).code == 0


def damage(raw: bytes, drawn: random.Random) -> bytes:
    """Bytes changed, lines dropped, doubled, swapped, numbers replaced by others."""
    lines = raw.split(b"\n")
    for _ in range(drawn.randrange(1, 8)):
        place = drawn.randrange(len(lines))
        match drawn.randrange(6):
            case 0:
                del lines[place]
            case 1:
                lines.insert(drawn.randrange(len(lines) + 1), lines[place])
            case 2:
                other = drawn.randrange(len(lines))
                lines[place], lines[other] = lines[other], lines[place]
            case 3:
                line = bytearray(lines[place])
                if line:
                    line[drawn.randrange(len(line))] = drawn.randrange(256)
                lines[place] = bytes(line)
            case 4:
                values = [
                    b"-1",
                    b"0",
                    b"9223372036854775807",
                    b"-9223372036854775808",
                    b"null",
                    b'"x"',
                    b"[]",
                    b"1e300",
                ]
                cells = lines[place].split(b":")
                if len(cells) > 1:
                    chosen = drawn.randrange(1, len(cells))
                    head, comma, tail = cells[chosen].partition(b",")
                    cells[chosen] = drawn.choice(values) + comma + tail
                    if not comma:
                        cells[chosen] = drawn.choice(values) + b"}" * head.count(b"}")
                lines[place] = b":".join(cells)
            case _:
                lines[place] = lines[place][: drawn.randrange(len(lines[place]) + 1)]
    return b"\n".join(lines)


@pytest.mark.parametrize("seed", range(int(os.environ.get("KASOKU_TEST_DAMAGE", "40"))))
def test_a_damaged_journal_can_be_opened_followed_and_shown(work: Workplace, copied: SessionFolder, seed: int) -> None:
    drawn = random.Random(seed)  # noqa: S311
    unfinish(copied)
    copied.journal.write_bytes(damage(copied.journal.read_bytes(), drawn))
    assert recover(copied) in STATUSES
    assert sorted(name for name in FRAMES if copied.frame(name).is_file()) == sorted(FRAMES), copied.read().error
    follower = Follower(copied)
    while follower.poll():
        follower.snapshot()
    said = work.command("show", copied.id)
    assert said.code == 0, said.err


@pytest.mark.parametrize(
    "name", ["session.json", "plan.json", "journal.ndjson", "runs.parquet", "requests.parquet", "tokens.parquet"]
)
@pytest.mark.parametrize("what", ["empty", "rubbish", "cut", "folder", "gone", "other"])
def test_a_damaged_file_is_a_session_or_a_sentence(
    work: Workplace, copied: SessionFolder, name: str, what: str
) -> None:
    path = copied.path / name
    raw = path.read_bytes()
    path.unlink()
    match what:
        case "empty":
            path.touch()
        case "rubbish":
            path.write_bytes(bytes(range(256)) * 10)
        case "cut":
            path.write_bytes(raw[: len(raw) // 2])
        case "folder":
            path.mkdir()
        case "other":
            path.write_bytes(b'{"k":"header","schema_version":1,"id":"x","status":"running"}')
        case _:
            pass
    with contextlib.suppress(SessionError):
        recover(copied)
    for command in (
        ("show", copied.id),
        ("compare", copied.id),
        ("sessions",),
        ("replay", copied.id, "--speed", "99999"),
    ):
        said = work.command(*command)
        assert said.code in (0, 2), said.err
        assert said.err.count("\n") <= 1
        assert said.code == 0 or copied.id in said.err, said.err
        assert "Kasoku itself failed" not in said.err
    assert copied.id in work.command("sessions").out


def test_an_empty_or_foreign_folder_is_refused_with_a_sentence(work: Workplace, whole: SessionFolder) -> None:
    path = whole.path.parent / f"{whole.id[:-6]}ffffff"
    path.mkdir()
    try:
        (path / "holiday.jpg").touch()
        with pytest.raises(SessionError, match=r"has no session\.json: it is not a session"):
            recover(SessionFolder(path))
        for command in ("show", "attach", "resume", "replay"):
            said = work.command(command, path.name)
            assert said.code == 2
            assert said.err.count("\n") == 1
            assert "it is not a session" in said.err
        assert "unreadable" in work.command("sessions").out
        assert [file.name for file in path.iterdir()] == ["holiday.jpg"], "nothing was put there"
    finally:
        shutil.rmtree(path)


@pytest.mark.parametrize("name", ["session.json", "plan.json", "journal.ndjson"])
def test_files_of_a_later_schema_are_refused_with_a_sentence(work: Workplace, copied: SessionFolder, name: str) -> None:
    path = copied.path / name
    unfinish(copied)
    path.write_bytes(
        path.read_bytes()
        .replace(b'"schema_version":%d' % SCHEMA_VERSION, b'"schema_version":%d' % (SCHEMA_VERSION + 1))
        .replace(b'"schema_version": %d' % SCHEMA_VERSION, b'"schema_version": %d' % (SCHEMA_VERSION + 1))
    )
    before = path.read_bytes()
    for command in ("show", "resume", "attach", "compare"):
        said = work.command(command, copied.id)
        assert said.code == 2, f"{command}: {said.out} {said.err}"
        assert said.err.count("\n") == 1
        assert "newer Kasoku" in said.err
        assert "update Kasoku" in said.err
    assert path.read_bytes() == before, "what a newer Kasoku wrote is not touched"
    assert not copied.frame("runs").exists()


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_of_a_later_schema_is_refused_with_a_sentence(
    work: Workplace, copied: SessionFolder, name: str
) -> None:
    assert pl.read_parquet_metadata(copied.frame(name))["kasoku_schema_version"] == str(SCHEMA_VERSION)
    pl.read_parquet(copied.frame(name)).write_parquet(
        copied.frame(name), metadata={"kasoku_schema_version": str(SCHEMA_VERSION + 1)}
    )
    with pytest.raises(SessionError, match="newer Kasoku"):
        Store(copied.path.parent).scan(name, [copied.id])
    over_all = Store(copied.path.parent).scan(name)
    assert over_all is not None
    assert copied.id not in over_all.collect()["session"].to_list(), "the others stay readable"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def places(document: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON document, as its path."""
    found = [prefix] if prefix else []
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        found += places(value, (*prefix, key))
    return found


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_anywhere_in_its_json_files_is_a_session_or_a_sentence(
    work: Workplace, copied: SessionFolder, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["session.json", "plan.json"]))
    path = copied.path / name
    raw = path.read_bytes()
    document = json.loads(raw)
    place = data.draw(st.sampled_from(places(document)))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(ANY_JSON)
    path.write_text(json.dumps(document))
    try:
        for command in (("show", copied.id), ("sessions",), ("sessions", "--json")):
            said = work.command(*command)
            assert said.code in (0, 2), said.err
            assert said.code == 0 or said.err.count("\n") == 1
            assert "Kasoku itself failed" not in said.err, f"{place}: {said.err}"
    finally:
        path.write_bytes(raw)


def test_a_plan_from_elsewhere_cannot_name_a_file_outside_its_session(work: Workplace, copied: SessionFolder) -> None:
    document = json.loads((copied.path / "plan.json").read_bytes())
    document["methods"][0]["name"] = "../../../escaped"
    (copied.path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(SessionError, match="damaged"):
        copied.plan()
    assert work.command("resume", copied.id).code == 2


def test_a_plan_with_more_blocks_than_a_machine_could_hold_is_refused(copied: SessionFolder) -> None:
    document = json.loads((copied.path / "plan.json").read_bytes())
    document["blocks"] = 10**12
    (copied.path / "plan.json").write_text(json.dumps(document))
    with pytest.raises(SessionError, match="damaged"):
        copied.plan()


def test_a_later_word_on_a_block_that_has_ended_is_another_attempt(copied: SessionFolder) -> None:
    """What a block measured stays when a resume finds that its method cannot run any more."""
    raw = ["attempt", "position", "status", "error", "started_ns", "ended_ns", "load_s", "peak_rss_bytes", "evidence"]
    own = (pl.col("method") == "one", pl.col("block") == 0)
    before = frames_of(copied)["runs"].filter(*own).to_dicts()
    writer = JournalWriter(copied.path)
    writer.append(BlockEnded(t=10**18, method="one", block=0, status="unavailable", error="No such environment."))
    writer.append(Note(t=10**18, text="after", flag="late", method="one", block=0))
    writer.close()
    close_session(copied, "finished")
    after = frames_of(copied)["runs"].filter(*own).sort("attempt").to_dicts()
    assert [after[0][name] for name in raw] == [before[0][name] for name in raw]
    assert any("after" in flag for flag in after[1]["flags"])
    assert not any("after" in flag for flag in after[0]["flags"])
    assert [(row["attempt"], row["status"], row["error"]) for row in after] == [
        (0, "ok", ""),
        (1, "unavailable", "No such environment."),
    ]


def test_closing_says_what_the_disk_denies(copied: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sessions.frames.long_frame._created", denied)
    close_session(copied, "stopped")
    session = copied.read()
    assert session.status == "stopped"
    assert "No space left on device" in session.error


def test_closing_survives_our_own_mistakes(copied: SessionFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("sessions.frames.build.write_frames", broken)
    close_session(copied, "finished")
    assert copied.read().status == "finished"
    assert "ZeroDivisionError: ours" in copied.read().error


def test_a_journal_that_cannot_be_read_is_said(copied: SessionFolder) -> None:
    copied.journal.unlink()
    copied.journal.mkdir()
    with pytest.raises(JournalError):
        list(read_journal(copied.journal))
    close_session(copied, "finished")
    assert "cannot be read" in copied.read().error


@pytest.mark.parametrize(
    "changes",
    [
        {"created_ns": 2**62},
        {"created_ns": -(2**62)},
        {"created_ns": 10**30},
        {"summary": [{"tok_s_mean": 1.0}]},
        {"summary": [{"method": None, "tok_s_mean": 1.0}, {"method": "x", "tok_s_mean": True}]},
        {"plan": {"methods": [{}, None, 7]}},
        {"plan": {"requests": "many", "blocks": None}},
        {"tags": ["\x1b[31m"], "name": "\x1b[2J"},
    ],
)
def test_a_listing_survives_any_session_file(work: Workplace, copied: SessionFolder, changes: dict[str, Any]) -> None:
    path = copied.path / "session.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
    for command in (("sessions",), ("sessions", "--json"), ("show", copied.id)):
        said = work.command(*command)
        assert said.code in (0, 2), said.err
        assert "Kasoku itself failed" not in said.err
        assert copied.id in said.out + said.err
        assert "\x1b" not in said.out + said.err
