"""Sessions that version 0.1.0 wrote are still listed, shown, compared, exported, replayed and resumed.

`written_by_0_1_0/` holds a finished session and one that was stopped in its last block, both of the default model on a
CPU, and under `said/` what that version printed and exported of them.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from sessions.disk.frame_schema import FIDELITY, SCHEMAS, YOUNGER
from sessions.disk.journal import read_journal
from sessions.disk.session_folder import SessionFolder
from sessions.frames.build import write_frames
from sessions.watch.following import Replayer
from tests.sessions.workplace import Workplace

KEPT = Path(__file__).with_name("written_by_0_1_0")
FINISHED, STOPPED = "20261128-054129-776eb5", "20261128-054329-cfb2bc"


@pytest.fixture
def old_home(home: Path) -> Path:
    """A home with the real environment and model, and the old sessions in it."""
    for name in ("sessions", "plans"):
        shutil.copytree(KEPT / name, home / name, dirs_exist_ok=True)
    return home


def said(*arguments: str) -> Any:
    result = Workplace.command(*arguments)
    assert result.code == 0, result.err
    return json.loads(result.out)


def kept(name: str) -> Any:
    return json.loads((KEPT / "said" / name).read_text(encoding="utf-8"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def with_old_columns(new: list[dict[str, str]], old: list[dict[str, str]]) -> list[dict[str, str]]:
    """The new rows cut down to the columns that there were; a column that is gone is a KeyError."""
    return [{name: row[name] for name in old[0]} for row in new]


@pytest.mark.usefixtures("old_home")
def test_they_are_listed_as_they_were() -> None:
    new = {row["id"]: row for row in said("sessions", "--json")}
    for old in kept("sessions.json"):
        assert {name: new[old["id"]][name] for name in old} == old


@pytest.mark.usefixtures("old_home")
def test_they_are_shown_as_they_were() -> None:
    new, old = said("show", FINISHED, "--json"), kept("show.json")
    planned, was = new["session"].pop("plan"), old["session"].pop("plan")
    for own, method in zip(planned["methods"], was.pop("methods"), strict=True):
        assert {name: own[name] for name in method} == method
    assert {name: planned[name] for name in was} == was
    assert {name: new["session"][name] for name in old["session"]} == old["session"]
    for place, run in enumerate(old["runs"]):
        assert {name: new["runs"][place][name] for name in run} == run


def test_they_are_compared_as_they_were(old_home: Path) -> None:
    out = old_home / "compared.csv"
    result = Workplace.command("compare", FINISHED, STOPPED, "--anyway", "--csv", str(out))
    assert result.code == 0, result.err
    old = rows_of(KEPT / "said" / "compare.csv")
    new = with_old_columns(rows_of(out), old)
    assert [list(row) for row in new] == [list(row) for row in old]
    assert new == old


def test_they_are_exported_as_they_were(old_home: Path) -> None:
    assert Workplace.command("export", FINISHED, "--out", str(old_home / "out")).code == 0
    for name in ("runs.csv", "requests.csv"):
        old = rows_of(KEPT / "said" / name)
        assert with_old_columns(rows_of(old_home / "out" / name), old) == old
    assert (old_home / "out" / "fidelity.csv").read_text(encoding="utf-8") == ",".join(FIDELITY) + "\n"


def test_they_are_replayed(old_home: Path) -> None:
    folder = SessionFolder(old_home / "sessions" / FINISHED)
    # the model, whose tokeniser gives the text, is in another home now
    moved = re.sub(r'"[^"]+/models/', f'"{old_home}/models/', folder.journal.read_text())
    folder.journal.write_text(moved)
    replayer = Replayer(folder)
    while not replayer.ended:
        replayer.advance(1000)
    live = replayer.snapshot()
    assert live.status == "finished"
    assert [(row.name, row.state, row.requests_done) for row in live.methods] == [
        ("baseline", "ok", 3),
        ("library-default", "ok", 3),
    ]
    assert live.text


@pytest.mark.model
@pytest.mark.engines
def test_one_that_was_stopped_is_resumed(old_home: Path) -> None:
    result = Workplace.command("resume", STOPPED)
    assert result.code == 0, result.err
    new = said("show", STOPPED, "--json")
    assert new["session"]["status"] == "finished"
    counted = [(run["method"], run["block"], run["status"]) for run in new["runs"] if run["status"] == "ok"]
    assert sorted(counted) == [
        (name, block, "ok") for name in ("baseline", "torch-compile-wrapper") for block in (0, 1)
    ]
    assert {row["method"]: row["blocks"] for row in new["comparison"]} == {"baseline": 2, "torch-compile-wrapper": 2}


@pytest.mark.parametrize("session", [FINISHED, STOPPED])
def test_their_journals_give_the_frames_that_they_gave(session: str, tmp_path: Path) -> None:
    folder = SessionFolder(KEPT / "sessions" / session)
    built = write_frames(tmp_path, session, folder.plan(), read_journal(folder.journal))
    assert built.keys() == SCHEMAS.keys()
    assert all(built.pop(name).is_empty() for name in YOUNGER)
    for name, frame in built.items():
        # prose may be reworded, and decoding a text needs the model's folder as it was
        old = pl.read_parquet(folder.frame(name)).drop("text", "missing", "flags", "difference", strict=False)
        assert_frame_equal(frame.select(old.columns), old)
