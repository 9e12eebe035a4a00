"""The home: where it is, who may read it, and what happens when it cannot be written."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from typing import TYPE_CHECKING

import pytest

from methods.base import home
from tests.methods.unprivileged import unprivileged

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_home_is_where_the_variable_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KASOKU_HOME", str(tmp_path / "a"))
    monkeypatch.setenv("KASOKU_CONFIG", "~/b")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.home() == tmp_path / "a"
    assert home.config_folder() == tmp_path / "b"
    assert not (tmp_path / "a").exists()


def test_without_the_variable_it_is_in_the_platforms_data_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KASOKU_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home.home() == tmp_path / "kasoku"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KASOKU_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert home.config_folder() == tmp_path / "kasoku"


def test_folders_are_the_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        folder = home.subfolder(tmp_path / "deep" / "home", home.MODELS)
    finally:
        os.umask(previous)
    assert folder == tmp_path / "deep" / "home" / "models"
    assert [mode(each) for each in (folder, folder.parent, folder.parent.parent)] == [0o700] * 3


def test_a_folder_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    home.private_folder(tmp_path / "inside")
    assert mode(tmp_path) == 0o755


@pytest.mark.parametrize("place", ["file/home", "file", "/proc/kasoku", "x" * 300])
def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(home.HomeError) as caught:
        home.subfolder(tmp_path / place, home.CACHE)
    sentence = str(caught.value)
    assert "KASOKU_HOME" in sentence
    assert "\n" not in sentence
    assert "Errno" not in sentence


def test_a_written_file_is_private_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("old")
    path.chmod(0o644)
    home.write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["settings.toml"]


def test_a_file_that_cannot_be_replaced_leaves_no_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "inside").touch()
    with pytest.raises(home.HomeError):
        home.write_atomically(tmp_path / "taken", b"new")
    assert [each.name for each in tmp_path.iterdir()] == ["taken"]


def test_writing_into_a_folder_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(home.HomeError, match="cannot write to"):
        home.write_atomically(tmp_path / "gone" / "file", b"")


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synced_is_no_fault_and_one_whose_disk_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    real, said = os.fsync, [code]

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(said[0], os.strerror(said[0]))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    home.write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"
    said[0] = errno.EIO
    with pytest.raises(home.HomeError, match=r"(?i)input/output error"):
        home.write_atomically(tmp_path / "file", b"content")


def test_a_folder_that_may_be_written_into_but_not_read_takes_a_file(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box").chmod(0o733)
    with unprivileged(tmp_path):
        home.write_atomically(tmp_path / "box" / "file", b"content")
    assert (tmp_path / "box" / "file").read_bytes() == b"content"


def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path) -> None:
    home.write_atomically(tmp_path / ("長" * 85), b"content")


@pytest.mark.parametrize("given", ["relative/data", ""])
def test_a_relative_folder_of_the_desktop_is_ignored_as_its_standard_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.delenv("KASOKU_HOME", raising=False)
    monkeypatch.delenv("KASOKU_CONFIG", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", given)
    monkeypatch.setenv("XDG_CONFIG_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.home() == tmp_path / ".local/share/kasoku"
    assert home.config_folder() == tmp_path / ".config/kasoku"


@pytest.mark.parametrize("user", ["", None, "relative"])
def test_a_user_without_a_home_is_asked_for_one(monkeypatch: pytest.MonkeyPatch, user: str | None) -> None:
    for variable in ("KASOKU_HOME", "KASOKU_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(variable, raising=False)
    if user is not None:
        monkeypatch.setenv("HOME", user)

    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(home.HomeError, match="set KASOKU_HOME to the absolute path"):
        home.home()
    with pytest.raises(home.HomeError, match="set KASOKU_CONFIG to the absolute path"):
        home.config_folder()
    monkeypatch.setenv("KASOKU_HOME", "~/kasoku")
    with pytest.raises(home.HomeError, match=r"KASOKU_HOME.*you have none here"):
        home.home()
