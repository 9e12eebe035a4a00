"""Limits of a control group: threads follow the quota, what it cost is flagged, and the session names it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host.cgroup import CgroupCounts, CgroupLimits
from probes.machine import Machine
from sessions.device.device_key import device_key
from sessions.device.devices import default_threads
from sessions.disk.plan import Plan
from sessions.disk.records import BlockPhase
from sessions.run.limits_met import limits_met
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, conductor_of, records_of, runs_of

CPU_GROUPS = Path("/sys/fs/cgroup/cpu")


@pytest.mark.parametrize(("cpus", "threads"), [(0.2, 1), (1.0, 1), (1.9, 1), (10_000.0, None), (None, None)])
def test_there_are_no_more_threads_than_the_quota_is_worth(cpus: float | None, threads: int | None) -> None:
    unlimited = default_threads(lambda: CgroupLimits(None, None, None, None))
    assert default_threads(lambda: CgroupLimits(None, None, cpus, None)) == (threads or unlimited)


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        (Machine(cores_logical=8, ram_total_bytes=32_000_000_000), ""),
        (Machine(cores_logical=8, cgroup_cpus=8.0, ram_total_bytes=1, cgroup_memory_bytes=2), ""),
        (Machine(cores_logical=8, cgroup_cpus=0.2), "0.2 of 8 CPUs"),
        (
            Machine(cores_logical=8, cgroup_cpus=1.5, ram_total_bytes=32_000_000_000, cgroup_memory_bytes=4 * 10**9),
            "1.5 of 8 CPUs and 4.0 of 32.0 GB of memory",
        ),
        (Machine(cgroup_memory_bytes=4 * 10**9), "4.0 GB of memory"),
    ],
)
def test_only_limits_below_what_the_machine_has_are_named(machine: Machine, said: str) -> None:
    assert machine.limits() == said


def test_what_was_measured_within_a_quota_is_not_taken_for_the_machines() -> None:
    plan = Plan(threads=1)
    free, wide, limited = (Machine(cpu_model="a CPU", cores_logical=8, cgroup_cpus=cpus) for cpus in (None, 8.0, 0.2))
    assert device_key(plan, free) == device_key(plan, wide) == "a CPU 1 threads"
    assert device_key(plan, limited) == "a CPU 1 threads limited to 0.2 CPUs"


def test_only_what_was_met_in_between_is_a_flag() -> None:
    before = CgroupCounts(5, 1.5, 7)
    assert list(limits_met(before, before)) == []
    assert list(limits_met(before, CgroupCounts(8, 1.75, 9))) == [
        (
            "throttled by a CPU quota",
            "its control group's quota was used up in 3 periods of the timed part, for 0.25 s summed over CPUs",
        ),
        ("memory limit met", "its control group had no memory left 2 times in the timed part"),
    ]


@pytest.fixture
def cpu_group() -> Iterator[Path]:
    """A control group of version 1 for the CPU, without a quota yet."""
    folder = CPU_GROUPS / f"kasoku-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of version 1 can be made here: {error}")
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 10
        while folder.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # busy as long as the kernel has not taken its processes away
                folder.rmdir()


def test_a_quota_that_throttles_is_a_flag_and_is_named(cpu_group: Path, work: Workplace) -> None:
    quota, counters = cpu_group / "cpu.cfs_quota_us", cpu_group / "cpu.stat"
    folder = work.launch(work.method("steady", rate=20.0), max_new_tokens=60)
    (cpu_group / "cgroup.procs").write_text(str(conductor_of(folder).pid))
    quota.write_text("150000\n")  # more than one core can use
    until(lambda: [r for r in records_of(folder) if isinstance(r, BlockPhase) and r.phase == "timed"], "it is timed")
    quota.write_text("1000\n")
    until(lambda: "nr_throttled 0" not in counters.read_text(), "the quota throttles")
    quota.write_text("150000\n")

    assert work.finished(folder) == "finished"
    (run,) = runs_of(folder)
    assert [flag for flag in run["flags"] if flag.startswith("throttled by a CPU quota: its control group's quota was")]
    if (os.cpu_count() or 1) >= 2:
        assert "limited by a control group to 1.5 of" in work.command("show", folder.id).out
