"""The host's readings, on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from probes.base.call_budget import CallBudget
from probes.host.cgroup import CgroupCounts, CgroupLimits, cgroup_counts, cgroup_limits, cgroup_memory_left
from probes.host.host import Host

if TYPE_CHECKING:
    from pathlib import Path

NO_LIMITS = CgroupLimits(None, None, None, "none in this test")


def test_ten_ticks_give_cpu_at_every_second_and_the_rest_once() -> None:
    host = Host()
    assert host.open() == ()
    read = [reading for turn in range(10) for reading in (*host.fast(), *host.slow(turn))]
    count = {metric: sum(reading.metric == metric for reading in read) for metric in {r.metric for r in read}}
    assert count["cpu_percent"] == 5
    assert count["ram_used_bytes"] == count["ram_total_bytes"] == count["load_1m"] == count["cpu_mhz"] == 1
    value = {reading.metric: reading.value for reading in read}
    total = value["ram_total_bytes"]
    used = value["ram_used_bytes"]
    assert total == psutil.virtual_memory().total
    assert used is not None
    assert 0 < used < total
    assert all(reading.source == "host" for reading in read)
    assert all((reading.value is None) == (reading.status != "ok") for reading in read)
    assert all(0 <= reading.call_us < 1e6 for reading in read)


def test_every_core_on_request() -> None:
    host = Host(per_core=True)
    host.open()
    metrics = {reading.metric for reading in host.slow(7)}
    assert {f"cpu{core}_percent" for core in range(psutil.cpu_count() or 1)} <= metrics


def test_the_groups_memory_is_read_where_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("123456\n")
    host = Host(limits=lambda: CgroupLimits(tmp_path, None, None, None))
    host.open()
    assert {r.metric: r.value for r in host.slow(7)}["cgroup_memory_used_bytes"] == 123456.0
    (tmp_path / "memory.current").write_text("rubbish")
    (reading,) = (r for r in host.slow(17) if r.metric == "cgroup_memory_used_bytes")
    assert reading.value is None
    assert "rubbish" in reading.status


def test_a_hidden_proc_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden() -> None:
        raise PermissionError(13, "Permission denied")

    host = Host(limits=lambda: NO_LIMITS)
    host.open()
    monkeypatch.setattr(psutil, "virtual_memory", hidden)
    (reading,) = (r for r in host.slow(7) if r.metric == "ram_used_bytes")
    assert reading.value is None
    assert "Permission denied" in reading.status


def test_a_machine_without_a_cpu_clock_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    host = Host(limits=lambda: NO_LIMITS)
    host.open()
    (reading,) = (r for r in host.slow(7) if r.metric == "cpu_mhz")
    assert reading.value is None
    assert "no CPU frequency" in reading.status


def groups(root: Path, path: str) -> Path:
    mount = root / "sys/fs/cgroup"
    folder = mount / path.strip("/")
    folder.mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("cpu memory\n")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::{path}\n")
    return folder


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    folder = groups(tmp_path, "/user.slice/box")
    (folder / "memory.max").write_text("max\n")
    (folder / "cpu.max").write_text("150000 100000\n")
    (folder.parent / "memory.max").write_text("4294967296\n")
    (folder.parent / "cpu.max").write_text("400000 100000\n")
    assert cgroup_limits(tmp_path) == CgroupLimits(folder, 2**32, 1.5, None)


@pytest.mark.parametrize("text", ["", "max 100000", "rubbish", "1 0", "\xff\xfe"])
def test_no_or_odd_limits_are_no_limits(tmp_path: Path, text: str) -> None:
    folder = groups(tmp_path, "/box")
    (folder / "cpu.max").write_text(text, encoding="latin-1")
    assert cgroup_limits(tmp_path) == CgroupLimits(folder, None, None, None)


def test_a_path_of_the_host_falls_back_to_the_group_that_is_mounted(tmp_path: Path) -> None:
    folder = groups(tmp_path, "/")
    (folder / "memory.max").write_text("1000\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/docker/abc\n")
    assert cgroup_limits(tmp_path).memory_bytes == 1000


def test_no_cgroups_are_a_reason(tmp_path: Path) -> None:
    assert "version 2" in (cgroup_limits(tmp_path).missing or "")
    assert cgroup_counts(tmp_path) == CgroupCounts()
    assert cgroup_memory_left(tmp_path) is None


def version_1(root: Path, path: str, cpu: str = "cpu,cpuacct") -> tuple[Path, Path]:
    """The group's folders for memory and for the CPU."""
    folders = [root / "sys/fs/cgroup" / name / path.strip("/") for name in ("memory", cpu)]
    for folder in folders:
        folder.mkdir(parents=True)
    if cpu != "cpu":
        (root / "sys/fs/cgroup/cpu").symlink_to(cpu)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"9:name=systemd:/\n4:memory:{path}\n1:{cpu}:{path}\n0::/\n")
    return folders[0], folders[1]


@pytest.mark.parametrize("cpu", ["cpu,cpuacct", "cpu"])
def test_limits_of_version_1_are_read_as_those_of_version_2(tmp_path: Path, cpu: str) -> None:
    memory, quota = version_1(tmp_path, "/docker/abc", cpu)
    (memory / "memory.limit_in_bytes").write_text("4294967296\n")
    (memory.parent / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (quota / "cpu.cfs_quota_us").write_text("-1\n")
    (quota.parent / "cpu.cfs_quota_us").write_text("20000\n")
    (quota.parent / "cpu.cfs_period_us").write_text("100000\n")

    assert cgroup_limits(tmp_path) == CgroupLimits(memory, 2**32, 0.2, None)


def test_the_memory_of_a_version_1_group_is_read(tmp_path: Path) -> None:
    memory, _ = version_1(tmp_path, "/docker/abc")
    (memory / "memory.usage_in_bytes").write_text("123456\n")
    host = Host(limits=lambda: cgroup_limits(tmp_path))
    host.open()
    assert {r.metric: r.value for r in host.slow(7)}["cgroup_memory_used_bytes"] == 123456.0


def test_what_the_kernel_counted_is_the_same_in_both_versions(tmp_path: Path) -> None:
    new = groups(tmp_path / "2", "/user.slice/box")
    (new / "cpu.stat").write_text("usage_usec 9\nnr_periods 8\nnr_throttled 3\nthrottled_usec 1500000\n")
    (new.parent / "cpu.stat").write_text("usage_usec 9\n")
    (new / "memory.events").write_text("low 0\nhigh 0\nmax 4\noom 0\n")
    memory, quota = version_1(tmp_path / "1", "/docker/abc")
    (quota / "cpu.stat").write_text("nr_periods 8\nnr_throttled 3\nthrottled_time 1500000000\n")
    (memory / "memory.failcnt").write_text("4\n")

    assert cgroup_counts(tmp_path / "2") == CgroupCounts(3, 1.5, 4)
    assert cgroup_counts(tmp_path / "1") == CgroupCounts(3, 1.5, 4)


def test_the_memory_left_is_what_the_kernel_could_still_give(tmp_path: Path) -> None:
    folder = groups(tmp_path, "/user.slice/box")
    (folder / "memory.max").write_text("max\n")
    (folder.parent / "memory.max").write_text("1000\n")
    (folder.parent / "memory.current").write_text("900\n")
    (folder.parent / "memory.stat").write_text("anon 600\ninactive_file 300\n")

    assert cgroup_memory_left(tmp_path) == 400


def test_a_dear_reading_is_spaced_out() -> None:
    budget = CallBudget()
    assert budget.due(0)
    budget.took(0, 3_000_000)
    assert not budget.due(10_000_000_000)
    assert budget.due(10_003_000_000)
