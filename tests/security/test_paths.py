"""A session from elsewhere cannot reach out of its folder: not by names, by links, or by what its plan says to run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from methods.text.tokeniser import Tokeniser, TokeniserError
from sessions.close.session_end import recover
from sessions.disk import own_plans
from sessions.disk.records import Prepared
from sessions.disk.session_folder import FRAMES, SessionError, SessionFolder
from sessions.disk.store import Store
from sessions.run.launch import resume
from sessions.watch.following import Follower, Replayer
from tests.sessions.workplace import Workplace, records_of, runs_of
from tests.tui.journals import write_session
from tui.read.session_facts import read_session, run_facts, run_log_tail

ID = "20260225-060000-aaaaaa"
ESCAPES = ["../../../../tmp/x", "/etc/passwd", "..", ".", "a/b", "a\0b", "", "x" * 300, "-x", "a\nb", "~"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished session in it, which tests take copies of."""
    folder = tmp_path_factory.mktemp("written") / "home"
    folder.mkdir(mode=0o700)
    write_session(folder, session=ID, name="first")
    return folder


@pytest.fixture
def home(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That home, and a folder of the user's beside it that nobody may touch."""
    folder = tmp_path / "home"
    shutil.copytree(written, folder)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "stop").write_text("precious")
    (precious / "notes.txt").write_text("precious")
    monkeypatch.setenv("KASOKU_HOME", str(folder))
    monkeypatch.setenv("KASOKU_CONFIG", str(tmp_path / "config"))
    return folder


def session_of(home: Path) -> SessionFolder:
    return SessionFolder(home / "sessions" / ID)


def snapshot(folder: Path) -> dict[str, tuple[bytes | None, int]]:
    """Everything below a folder: content and mode."""
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else None, path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
    }


def precious(home: Path) -> Path:
    return home.parent / "precious"


# Names


@pytest.mark.parametrize("given", [f"../sessions/{ID}", f"{ID}/", "../../precious", "/etc", f"./{ID}", "..", "*", ""])
def test_a_session_is_named_and_never_a_path(home: Path, given: str) -> None:
    with pytest.raises(SessionError):
        Store(home / "sessions").folder(given)
    with pytest.raises(SessionError):
        Store(home / "sessions").delete(given)
    assert session_of(home).path.is_dir()


def test_only_folders_with_an_id_for_a_name_are_sessions(home: Path) -> None:
    sessions = home / "sessions"
    for name in ("20260225-060000-AAAAAA", "２０２６0225-060000-aaaaaa", f"{ID}\n", f"{ID}.bak", "..x", "\x1b[6n"):
        (sessions / name).mkdir()
    assert Store(sessions).ids() == [ID]


@pytest.mark.parametrize("name", ESCAPES)
def test_a_method_named_like_a_path_has_no_log(home: Path, name: str) -> None:
    """Frames may hold any text; what the Session screen shows of a log is within the session."""
    outside = precious(home) / "secret-0.log"
    outside.write_text("secret")
    with pytest.raises(SessionError, match="is not a valid method name"):
        session_of(home).log(name, 0)
    assert run_log_tail(session_of(home), name, 0) == []
    row = pl.read_parquet(session_of(home).frame("runs")).row(0, named=True) | {"method": f"../../../../{name}/secret"}
    assert "secret" not in {fact.text for fact in run_facts(session_of(home), row)}


def test_a_runs_frame_that_names_a_log_elsewhere_shows_nothing_of_it(home: Path) -> None:
    outside = precious(home) / "secret-0.log"
    outside.write_text("top secret line\n")
    folder = session_of(home)
    path = f"../../../../{outside.parent.name}/secret"
    assert (folder.path / "logs" / f"{path}-0.log").resolve() == outside.resolve(), "it would have led there"
    row = pl.read_parquet(folder.frame("runs")).row(0, named=True) | {"method": path, "block": 0}
    assert not [fact for fact in run_facts(folder, row) if "top secret" in fact.text]


@pytest.mark.parametrize("action", ["../stop", "/tmp/stop", "skip-../../x-0", "", "a/b", ".hidden", "stop\n", "x\0"])  # noqa: S108
def test_a_request_is_a_name_and_never_a_path(home: Path, action: str) -> None:
    before = snapshot(home.parent)
    with pytest.raises(SessionError):
        session_of(home).ask(action)
    assert snapshot(home.parent) == before


@pytest.mark.parametrize("name", ESCAPES)
def test_a_plan_with_a_method_named_like_a_path_is_damaged(home: Path, name: str) -> None:
    folder = session_of(home)
    plan = json.loads((folder.path / "plan.json").read_bytes())
    plan["methods"][0]["name"] = name
    (folder.path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SessionError, match=r"plan\.json of .* is damaged"):
        folder.plan()


def test_a_session_that_calls_itself_otherwise_is_its_folders_name(home: Path, tmp_path: Path) -> None:
    """session.json, and every frame, may claim any id."""
    folder = session_of(home)
    folder.write(msgspec.structs.replace(folder.read(), id="../../precious", name="../../precious"))
    for frame in FRAMES:
        table = pl.read_parquet(folder.frame(frame)).with_columns(session=pl.lit("../../precious"))
        table.write_parquet(folder.frame(frame))
    store = Store(home / "sessions")
    assert [row.id for row in store.listed()] == [ID]
    assert read_session(store, ID).overview
    before = snapshot(precious(home))
    for command in (
        ("show", ID),
        ("show", "../../precious"),
        ("compare", ID),
        ("export", ID, "--out", str(tmp_path / "out")),
        ("report", ID, "--out", str(tmp_path / "page.html")),
        ("replay", ID, "--speed", "100000"),
    ):
        said = Workplace.command(*command)
        assert said.code in (0, 1), (command, said.err)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{frame}.csv" for frame in FRAMES}
    store.relabel(ID, name="../../elsewhere", tags=["/etc/passwd"])
    store.delete(ID)
    assert snapshot(precious(home)) == before
    assert store.ids() == []


# Links, pipes


def link(name: str, target: str) -> Callable[[Path, Path], None]:
    def made(session: Path, precious: Path) -> None:
        place = session / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(precious / target)

    return made


def pipe(name: str) -> Callable[[Path, Path], None]:
    def made(session: Path, _: Path) -> None:
        (session / name).unlink(missing_ok=True)
        os.mkfifo(session / name)

    return made


TRAPS: dict[str, Callable[[Path, Path], None]] = {
    "the journal is a link": link("journal.ndjson", "notes.txt"),
    "the plan is a link": link("plan.json", "notes.txt"),
    "session.json is a link": link("session.json", "notes.txt"),
    "a frame is a link": link("runs.parquet", "notes.txt"),
    "a frame's temporary file is a link": link("runs.parquet.tmp", "notes.txt"),
    "the lock is a link": link("lock", "notes.txt"),
    "the ballast is a link": link(".ballast", "notes.txt"),
    "the conductor's log is a link": link("conductor.log", "notes.txt"),
    "the logs are a link": link("logs", ""),
    "a log is a link": link("logs/baseline-0.log", "notes.txt"),
    "the requests are a link": link("requests", ""),
    "a link to nothing yet": link("comparison.csv", "new.csv"),
    "the journal is a pipe": pipe("journal.ndjson"),
    "session.json is a pipe": pipe("session.json"),
    "the lock is a pipe": pipe("lock"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_session_with_a_link_in_it_is_not_opened_and_can_be_deleted(home: Path, tmp_path: Path, trap: str) -> None:
    folder = session_of(home)
    unfinished = msgspec.structs.replace(folder.read(), status="running")
    folder.write(unfinished)  # so that whoever opens it would write into it
    folder.frame("requests").unlink()
    TRAPS[trap](folder.path, precious(home))
    before = snapshot(precious(home))
    for command in (
        ("show", ID),
        ("show", ID, "--json"),
        ("replay", ID, "--speed", "100000"),
        ("resume", ID),
        ("resume", "--anyway", ID),
        ("attach", ID),
        ("stop", ID),
        ("export", ID, "--out", str(tmp_path / "out")),
        ("report", ID, "--out", str(tmp_path / "page.md")),
    ):
        said = Workplace.command(*command)
        assert said.code == 2, (command, said)
        assert f"{ID} is not opened: it is a folder with" in said.err, command
        assert said.err.count("\n") == 1
        assert "precious" not in said.out + said.err
    said = Workplace.command("compare", ID)
    assert said.code == 2
    assert Workplace.command("sessions").code == 0
    store = Store(home / "sessions")
    assert [row.id for row in store.listed()] == [ID]
    for frame in FRAMES:
        scanned = store.scan(frame)
        assert scanned is None or scanned.collect().height or frame == "fidelity"  # which was not asked for
    with pytest.raises(SessionError, match="is not opened"):
        read_session(store, ID)
    assert snapshot(precious(home)) == before
    store.delete(ID)
    assert store.ids() == []
    assert snapshot(precious(home)) == before, "what the links led to is still there"


def test_a_session_whose_folder_is_a_link_is_not_opened_and_its_deletion_takes_the_link(home: Path) -> None:
    folder = session_of(home)
    elsewhere = home.parent / "elsewhere"
    folder.path.rename(elsewhere)
    folder.path.symlink_to(elsewhere)
    before = snapshot(elsewhere)
    store = Store(home / "sessions")
    with pytest.raises(SessionError, match="it is a link itself"):
        store.folder(ID)
    store.delete(ID)
    assert not folder.path.is_symlink()
    assert snapshot(elsewhere) == before


# What a plan says to run


@pytest.fixture(scope="module")
def stopped(shared_work: Workplace, tmp_path_factory: pytest.TempPathFactory) -> tuple[SessionFolder, Path]:
    """A session begun here and stopped, and a copy of it, as it goes into an archive."""
    shared_work.method("slow", rate=20.0)
    folder = shared_work.launch("slow", requests=2, blocks=2, max_new_tokens=400)
    folder.ask("stop")
    shared_work.finished(folder)
    archived = tmp_path_factory.mktemp("archive") / folder.id
    shutil.copytree(folder.path, archived)
    return folder, archived


@pytest.fixture
def elsewhere(stopped: tuple[SessionFolder, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SessionFolder:
    """That session in another home, as somebody gets it who unpacks the archive."""
    _, archived = stopped
    other = tmp_path / "other"
    (other / "sessions").mkdir(parents=True, mode=0o700)
    shutil.copytree(archived, other / "sessions" / archived.name)
    monkeypatch.setenv("KASOKU_HOME", str(other))
    return SessionFolder(other / "sessions" / archived.name)


EVIL = """
from pathlib import Path
Path({trap!r}).touch()
from kasoku_engine import Engine
ENGINE = Engine
"""


def test_a_session_from_elsewhere_is_not_resumed_unless_that_is_said(elsewhere: SessionFolder, tmp_path: Path) -> None:
    """Its plan names the engine, a Python file, that a resume would run."""
    folder = elsewhere
    trap = tmp_path / "sprung"
    (folder.path / "evil.py").write_text(EVIL.format(trap=str(trap)))
    plan = json.loads((folder.path / "plan.json").read_bytes())
    plan["methods"][0]["engine"] = str(folder.path / "evil.py")
    (folder.path / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SessionError, match=f"{folder.id} was not started here, or its plan has changed since"):
        resume(folder, tmp_path / "other")
    assert not trap.exists()
    assert folder.read().status == "stopped"
    said = Workplace.command("resume", folder.id)
    assert said.code == 2
    assert f"kasoku resume --anyway {folder.id}" in said.err
    assert not trap.exists()
    said = Workplace.command("resume", "--anyway", folder.id)
    Workplace.finished(folder)
    assert trap.exists(), "the trap is one"


def test_a_session_that_was_begun_here_is_resumed(shared_work: Workplace, stopped: tuple[SessionFolder, Path]) -> None:
    folder, _ = stopped
    assert own_plans.is_own(shared_work.home, folder.id, (folder.path / "plan.json").read_bytes())
    assert Store(shared_work.home / "sessions").folder(folder.id).path == folder.path, "what is whole holds no link"
    assert resume(folder, shared_work.home)
    folder.ask("stop")
    shared_work.finished(folder)
    Store(shared_work.home / "sessions").delete(folder.id)
    assert not (shared_work.home / "plans" / folder.id).exists()


def test_a_session_from_elsewhere_is_shown_compared_and_replayed(elsewhere: SessionFolder, tmp_path: Path) -> None:
    """None of that runs anything."""
    folder = elsewhere
    for command in (("show", folder.id), ("export", folder.id, "--out", str(tmp_path / "csv"))):
        assert Workplace.command(*command).code == 0
    assert Workplace.command("replay", folder.id, "--speed", "1000").code == 0
    replayer = Replayer(folder)
    while not replayer.ended:
        replayer.advance(1000.0)
    assert replayer.snapshot().status == "stopped"


# The model's folder, which a journal names


def prepared(folder: SessionFolder, model_folder: str) -> None:
    """The journal says that the model is there."""
    lines = folder.journal.read_bytes().splitlines()
    changed = []
    for line in lines:
        record: dict[str, Any] = json.loads(line)
        if record["k"] == "prepared":
            record["model"]["folder"] = model_folder
        changed.append(json.dumps(record))
    folder.journal.write_text("\n".join(changed) + "\n")


@pytest.mark.parametrize("kind", ["a pipe", "a device", "nothing", "a folder", "a file with a line break"])
def test_a_models_folder_that_is_a_trap_is_passed_over(home: Path, kind: str) -> None:
    """What would be read of it is its tokenizer.json and config.json: never waited for, and never without end."""
    trap = home.parent / "trap"
    trap.mkdir()
    for name in ("tokenizer.json", "config.json"):
        match kind:
            case "a pipe":
                os.mkfifo(trap / name)
            case "a device":
                (trap / name).symlink_to("/dev/zero")
            case "a folder":
                (trap / name).mkdir()
            case _:
                pass
    folder = session_of(home)
    prepared(folder, str(trap) + ("\n" if "line break" in kind else ""))
    for frame in FRAMES:
        folder.frame(frame).unlink()
    assert recover(folder) == "finished"
    texts = pl.read_parquet(folder.frame("requests"))["text"].to_list()
    assert set(texts) == {None}
    follower = Follower(folder)
    while follower.poll():
        pass
    assert follower.snapshot().text == ""
    with pytest.raises(TokeniserError):
        Tokeniser(trap)
    assert any(isinstance(record, Prepared) for record in records_of(folder))
    assert runs_of(folder)
