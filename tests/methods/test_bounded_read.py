"""Files that a user names: read up to a limit, refused in one sentence, and never waited for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from methods.base.bounded_read import ReadError, read_bytes, read_regular


def test_a_file_of_the_limit_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_bytes(file, 5, "The file") == b"12345"
    with pytest.raises(ReadError, match=r"^The file is larger than 4e-06 MB; shorten it\.$"):
        read_bytes(file, 4, "The file")


def test_a_pipe_is_not_waited_for_where_a_file_is_meant(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReadError, match=r"^The file is not a file\.$"):
        read_bytes(tmp_path / "pipe", 5, "The file")
    with pytest.raises(ReadError, match=r"^The file is not a file\.$"):
        read_bytes(Path("/dev/zero"), 5, "The file")


@pytest.mark.parametrize(
    ("name", "said"), [("none", "no such file"), ("a\0b", "null"), ("x" * 300, "too long"), ("", "is a directory")]
)
@pytest.mark.parametrize("streams", [False, True])
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, name: str, said: str, streams: bool) -> None:
    with pytest.raises(ReadError, match=f"^The file (cannot be read: )?.*{said}.*\\.$") as caught:
        read_bytes(tmp_path / name, 5, "The file", streams=streams)
    assert "\n" not in str(caught.value)


def test_a_regular_file_is_told_from_everything_else_by_the_systems_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    for path, links, said in (
        (tmp_path / "pipe", True, "it is not a file"),
        (Path("/dev/zero"), True, "it is not a file"),
        (tmp_path, True, "Is a directory"),
        (tmp_path / "link", False, "symbolic links"),
        (tmp_path / "none", True, "No such file"),
    ):
        with pytest.raises(OSError, match=said):
            read_regular(path, 5, links=links)
    with pytest.raises(OSError, match="larger than 4e-06 MB"):
        read_regular(tmp_path / "file", 4)
