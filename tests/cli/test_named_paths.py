"""Paths that users name, through the commands: every problem with one is a sentence and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from methods.models import models
from tests.methods.unprivileged import unprivileged
from tests.sessions.conftest import opened
from tests.sessions.workplace import Workplace, environment_of, make_model
from tests.verdicts.made_store import make_session


@pytest.mark.parametrize(
    "command",
    [
        ("compare", "last", "--csv", "x.csv"),
        ("export", "last", "--out", "x"),
        ("report", "last", "--out", "x.html"),
        ("models", "fetch", "./m"),
        ("env", "use", "torch", "bin/python"),
    ],
)
def test_a_current_folder_that_is_gone_is_a_sentence(work: Workplace, tmp_path: Path, command: tuple[str, ...]) -> None:
    make_session(work.home / "sessions", {"one": [10.0]})
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "from tui.command_line import main; sys.exit(main(sys.argv[1:]))"
    )
    root = str(Path(__file__).parents[2])
    said = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path,
        env={**environment_of(work), "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2, said.stderr
    assert "the current folder is gone" in said.stderr


def test_a_models_path_that_may_not_be_looked_at_is_a_sentence(work: Workplace, tmp_path: Path) -> None:
    said = work.command("models", "fetch", f"./{'a' * 300}")
    assert said.code == 2, said
    assert "file name too long" in said.err
    make_model(tmp_path / "secret" / "model")
    (tmp_path / "secret").chmod(0)
    with unprivileged(tmp_path), pytest.raises(models.ModelError, match="permission denied"):
        models.check(str(tmp_path / "secret" / "model"), work.home)


def test_a_half_made_session_is_not_the_last_and_nothing_readable_is_no_success(tmp_path: Path) -> None:
    for work in opened(tmp_path):
        (work.home / "sessions" / "20991231-235959-abcdef").mkdir(parents=True)
        for command in (["show", "last"], ["compare", "last"], ["report", "last", "--out", str(tmp_path / "x.md")]):
            said = work.command(*command)
            assert said.code == 2
            assert "None of the 1 sessions can be read" in said.err
        for command in (["compare", "20991231"], ["report", "20991231", "--out", str(tmp_path / "x.md")]):
            said = work.command(*command)
            assert said.code == 2
            assert "has no session.json" in said.err
        assert not (tmp_path / "x.md").exists()
        folder = make_session(work.home / "sessions", {"one": [10.0]})
        said = work.command("show", "last")
        assert said.code == 0, said.err
        assert folder.id in said.out
        both = work.command("compare", "last", "20991231", "--csv", str(tmp_path / "x.csv"))
        assert both.code == 0, both.err
        assert "one" in (tmp_path / "x.csv").read_text()


def test_a_table_goes_to_the_commands_own_output_and_through_links(work: Workplace, tmp_path: Path) -> None:
    make_session(work.home / "sessions", {"one": [10.0]})
    (tmp_path / "link.md").symlink_to("page")
    assert work.command("report", "last", "--out", str(tmp_path / "link.md")).code == 0
    assert (tmp_path / "page").read_text().startswith("#")
    said = work.kasoku("compare", "last", "--csv", "/dev/stdout")
    assert said.code == 0, said.err
    assert "session,method," in said.out
    assert os.path.islink(tmp_path / "link.md")
