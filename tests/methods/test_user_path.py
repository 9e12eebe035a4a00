"""Paths that users name: what is there, links followed, and a sentence where that cannot be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from methods.base.user_path import PathError, absolute, kind
from methods.models import models
from methods.models.models import ModelError
from tests.methods.unprivileged import unprivileged


def test_each_kind(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    found = {name: kind(tmp_path / name) for name in (".", "file", "pipe", "link", "dangling", "none", "file/below")}
    assert found == {
        ".": "folder", "file": "file", "pipe": "other", "link": "file", "dangling": "absent", "none": "absent",
        "file/below": "absent",
    }  # fmt: skip


def test_what_cannot_be_looked_at_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, why in (("a" * 300, "name too long"), ("loop", "symbolic links"), ("nul\0", "is not a path")):
        with pytest.raises(PathError, match=why) as caught:
            kind(tmp_path / name)
        assert "Errno" not in str(caught.value)


def test_a_folder_that_may_not_be_looked_into_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "secret" / "model").mkdir(parents=True)
    (tmp_path / "secret").chmod(0)
    with unprivileged(tmp_path), pytest.raises(PathError, match="permission denied"):
        kind(tmp_path / "secret" / "model")


def test_a_current_folder_that_is_gone_is_a_sentence_for_relative_paths_alone(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "from methods.base.user_path import PathError, absolute\n"
        "assert str(absolute('/tmp/x')) == '/tmp/x'\n"
        "try: absolute('x')\n"
        "except PathError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "gone")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ).stdout
    assert "current folder is gone" in said


def test_the_users_own_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert absolute("~/models") == Path("/somewhere/models")


@pytest.mark.parametrize("cache", ["~/.cache/huggingface/hub", "relative/hub"])
def test_a_cache_of_the_hub_below_the_current_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="set HF_HOME"):
        models.check("org/name", tmp_path / "home")
    assert list(tmp_path.iterdir()) == []
