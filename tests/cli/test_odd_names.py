"""Names that are odd but possible work; where a session would have to store what is not UTF-8, a sentence says so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from sessions.disk.plan import Plan
from sessions.planning.make import make_plan
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace
from tests.verdicts.made_store import make_session

NOT_UTF_8 = os.fsdecode(b"not utf-8 \xff")


def test_a_home_full_of_signs_is_one(tmp_path: Path) -> None:
    place = tmp_path / "a 'quoted' \"name\", $HOME; 家"
    place.mkdir()
    for work in opened(place):
        folder = work.run(work.method("one"))
        assert folder.read().status == "finished", folder.read().error
        for command in (
            ("show", "last"),
            ("compare", "last", "--csv", str(place / "x.csv")),
            ("report", "last", "--out", str(place / "page.html")),
            ("env", "list", "--json"),
        ):
            said = work.command(*command)
            assert said.code == 0, f"{command}: {said.err}"
        assert (place / "x.csv").read_text().startswith("session,")


def test_output_goes_to_names_that_are_not_utf_8(work: Workplace, tmp_path: Path) -> None:
    make_session(work.home / "sessions", {"one": [10.0]})
    for name, option, suffix in (("compare", "--csv", ""), ("export", "--out", ""), ("report", "--out", ".html")):
        out = tmp_path / f"{NOT_UTF_8}-{name}{suffix}"
        said = work.command(name, "last", option, str(out))
        assert said.code == 0, f"{name}: {said.err}"
        assert out.exists()
        assert (said.out + said.err).encode()


def test_a_home_a_model_and_a_python_that_are_not_utf_8_are_refused(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(work.model, tmp_path / NOT_UTF_8)
    work.method("one")
    (tmp_path / "python \udcff").symlink_to("/bin/true")
    for command in (
        work.options("one", model=str(model)),
        ["env", "use", "torch", str(tmp_path / "python \udcff")],
    ):
        said = work.command(*command)
        assert said.code == 2, said
        assert "is not UTF-8" in said.err
    monkeypatch.setenv("KASOKU_HOME", str(tmp_path / NOT_UTF_8 / "home"))
    said = work.command("sessions")
    assert said.code == 2, said
    assert "KASOKU_HOME" in said.err


def test_the_command_is_kept_with_a_session_whatever_its_words(work: Workplace) -> None:
    work.method("one")
    wanted = work.wanted("one")
    wanted.command = ("kasoku", "run", f"--prompt=@{NOT_UTF_8}")
    plan = make_plan(wanted, work.home, work.config)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan).command == plan.command
    assert plan.command[-1].startswith("--prompt=@not utf-8 ")
