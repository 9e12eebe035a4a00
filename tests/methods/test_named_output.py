"""Output to what a user names: files are replaced as a whole, everything else is written into and stays what it is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from methods.base import named_output
from methods.base.named_output import OutputError, write_named


def test_a_new_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    assert write_named(tmp_path / "new.csv", b"rows") == tmp_path / "new.csv"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"new.csv": b"rows"}


def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_bytes(b"a longer text than the new one")
    old.chmod(0o640)
    write_named(old, b"rows")
    assert old.read_bytes() == b"rows"
    assert stat.S_IMODE(old.stat().st_mode) == 0o640


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "shared").mkdir()
    target, link = tmp_path / "shared" / "results.csv", tmp_path / "link.csv"
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("shared") / "results.csv")
    write_named(link, b"rows")
    assert link.is_symlink()
    assert target.read_bytes() == b"rows"
    assert [path.name for path in target.parent.iterdir()] == ["results.csv"]


def test_a_pipe_stays_one_and_its_reader_gets_all(tmp_path: Path) -> None:
    pipe, rows = tmp_path / "pipe", b"row\n" * 100_000  # more than a pipe holds at once
    os.mkfifo(pipe)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_named(pipe, rows)
    reader.join(10)
    assert got == [rows]
    assert pipe.is_fifo()


def test_a_pipe_that_nobody_reads_is_a_sentence_and_not_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_output, "READER_WAIT_S", 0.0)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="nobody reads"):
        write_named(tmp_path / "pipe", b"rows")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device")
def test_a_device_stays_one(tmp_path: Path) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.read_bytes()
    except PermissionError:
        pytest.skip("no devices may be made or opened here")
    write_named(device, b"rows")
    assert stat.S_ISCHR(device.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["null"]


@pytest.mark.parametrize("redirected", [True, False])
def test_our_own_output_is_written_to_in_order_whether_it_is_a_pipe_or_a_file(tmp_path: Path, redirected: bool) -> None:
    code = (
        "import sys; from pathlib import Path; from methods.base.named_output import write_named;"
        "sys.stdout.write('before\\n'); write_named(Path('/dev/stdout'), b'rows\\n'); sys.stdout.write('after\\n')"
    )
    if redirected:
        with (tmp_path / "out").open("wb") as out:
            subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
        said = (tmp_path / "out").read_bytes()
    else:
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert said == b"before\nrows\nafter\n"


def test_a_file_whose_folder_takes_no_new_ones_is_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_: Path, target: Path) -> None:
        raise OSError(16, os.strerror(16), str(target))  # as for a file that is a mount of its own

    old = tmp_path / "mounted.csv"
    old.write_bytes(b"a longer text than the new one")
    monkeypatch.setattr(Path, "replace", busy)
    write_named(old, b"rows")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"mounted.csv": b"rows"}


@pytest.mark.parametrize(
    ("name", "why"),
    [(".", "is a folder"), ("gone/file", "no such file"), ("x" * 300, "too long"), ("nul\0", "not a path")],
)
def test_what_cannot_be_written_is_one_sentence(tmp_path: Path, name: str, why: str) -> None:
    with pytest.raises(OutputError, match=why) as caught:
        write_named(tmp_path / name, b"rows")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_long_or_not_utf_8_but_a_name_is_written(tmp_path: Path) -> None:
    for name in ("長" * 85, os.fsdecode(b"\xff\xfe")):
        write_named(tmp_path / name, b"rows")
        assert (tmp_path / name).read_bytes() == b"rows"
