"""What the kernel says of CPUs and processes, from files that stay open."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from probes.host.proc_files import CpuTimes, NewestPid, ProcessFile, parse_stat

if TYPE_CHECKING:
    from pathlib import Path


def stat_line(user: int, idle: int, waiting: int, guest: int = 0) -> str:
    return f"cpu  {user} 0 100 {idle} {waiting} 5 7 11 {guest} 0\ncpu0 9 9 9 9 9 9 9 9 9 9\nintr 1 2 3\n"


def test_cpu_percent_is_the_share_that_was_neither_idle_nor_waiting(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text(stat_line(1000, 1000, 1000))
    times = CpuTimes(str(file))
    file.write_text(stat_line(1030, 1060, 1010, guest=30))
    assert times.percent() == pytest.approx(30.0), "a guest's time is in user's already"
    file.write_text(stat_line(1040, 1060, 1010))
    assert times.percent() == pytest.approx(100.0)


def test_time_that_goes_back_counts_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text(stat_line(1000, 1000, 1000))
    times = CpuTimes(str(file))
    file.write_text(stat_line(1030, 1010, 900))  # the kernel corrects iowait downwards
    assert times.percent() == pytest.approx(75.0)


def test_no_time_between_two_readings_is_no_percentage(tmp_path: Path) -> None:
    file = tmp_path / "stat"
    file.write_text(stat_line(1000, 1000, 1000))
    times = CpuTimes(str(file))
    with pytest.raises(OSError, match="no CPU time"):
        times.percent()
    file.write_text(stat_line(1010, 1010, 1000))
    assert times.percent() == pytest.approx(50.0)


@pytest.mark.parametrize("text", ["", "cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9 10"])
def test_a_stat_file_without_cpu_times_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    with pytest.raises(OSError, match="does not begin with the CPU times"):
        CpuTimes(str(tmp_path / "stat"))


def test_this_machines_cpu_time_goes_on() -> None:
    times = CpuTimes()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            assert 0 <= times.percent() <= 100
        except OSError:
            continue
        return
    raise AssertionError("no CPU time was counted in 30 s")


def test_a_process_is_what_psutil_says_it_is() -> None:
    file, known = ProcessFile(os.getpid()), psutil.Process()
    held = bytearray(b"x") * (20 << 20)
    try:
        before, seen, after = known.cpu_times(), file.read(), known.cpu_times()
        assert not seen.ended
        assert seen.parent == os.getppid()
        least, most = before.user + before.system, after.user + after.system
        assert least - 0.001 <= seen.cpu_s <= most + 0.001
        assert abs(seen.rss - known.memory_info().rss) < len(held) / 2
    finally:
        file.close()


def test_an_ended_process_is_an_error_and_before_that_an_ended_one() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    file = ProcessFile(process.pid)
    process.kill()
    until = time.monotonic() + 30
    while not file.read().ended and time.monotonic() < until:
        subprocess.run([sys.executable, "-c", ""], check=True)
    assert file.read().ended
    process.communicate()
    with pytest.raises(ProcessLookupError):
        file.read()
    file.close()
    with pytest.raises(OSError, match="No such"):
        ProcessFile(process.pid)


def test_a_program_may_have_any_name() -> None:
    fields = " ".join(["S", "41", *["0"] * 9, "150", "50", *["0"] * 8, "3", *["0"] * 20])
    seen = parse_stat(f"42 (a) R 1 (b c) {fields}\n".encode())
    assert (seen.parent, seen.ended) == (41, False)
    assert seen.cpu_s == 200 / os.sysconf("SC_CLK_TCK")
    assert seen.rss == 3 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("text", [b"", b"42 (name", b"42 (name) S 41 0 0", b"42 (name) S x" + b" x" * 40])
def test_what_is_no_stat_line_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_stat(text)


def test_the_newest_pid_tells_of_a_new_process() -> None:
    newest = NewestPid()
    before = newest.read()
    if before is None:
        pytest.skip("not reported by this systems newest PID")
    subprocess.run([sys.executable, "-c", ""], check=True)
    assert newest.read() != before


@pytest.mark.parametrize("text", ["", "0.00 0.00 0.00 0/0 0", "rubbish"])
def test_a_system_that_does_not_tell_its_newest_pid(tmp_path: Path, text: str) -> None:
    (tmp_path / "loadavg").write_text(text)
    assert NewestPid(str(tmp_path / "loadavg")).read() is None
    assert NewestPid(str(tmp_path / "none")).read() is None
