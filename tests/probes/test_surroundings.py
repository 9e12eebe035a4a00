"""What changes speed besides a machine's parts is read, and every gap has its reason."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import pytest

from probes.host.surroundings import Surroundings, Variable, listed, surroundings


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_this_machine_tells_or_says_why_not() -> None:
    found = surroundings([], os.sched_getaffinity(0))
    assert found.variables == ()
    assert found.runner_cpus
    empty = {name for name, value in asdict(found).items() if value in (None, ())} - {"variables"}
    assert empty == set(found.missing)


def test_what_a_server_tells(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "model name\t: Big CPU\nflags\t\t: fpu avx2 amx_tile\n\nflags\t\t: other\n")
    write(tmp_path, "proc/self/status", "Name:\tx\nMems_allowed:\t3\nMems_allowed_list:\t0-1\n")
    write(tmp_path, "proc/self/numa_maps", "00400000 bind:0 file=/usr/bin/python3 mapped=1\n00600000 default\n")
    write(tmp_path, "sys/devices/system/cpu/smt/active", "1\n")
    write(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", "1\n")
    write(tmp_path, "sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
    variable = Variable(name="OMP_PROC_BIND", value="true")

    assert surroundings([variable], {0, 1, 2, 7}, tmp_path) == Surroundings(
        variables=(variable,),
        cpu_flags=("amx_tile", "avx2", "fpu"),
        smt=True,
        turbo=False,
        transparent_huge_pages="madvise",
        numa_policy="bind:0",
        memory_nodes="0-1",
        runner_cpus="0-2,7",
    )


def test_an_arm_machine_and_one_of_amd(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "BogoMIPS\t: 50\nFeatures\t: fp sve2 bf16\n")
    write(tmp_path, "sys/devices/system/cpu/cpufreq/boost", "1\n")
    found = surroundings([], [3], tmp_path)
    assert (found.cpu_flags, found.turbo, found.runner_cpus) == (("bf16", "fp", "sve2"), True, "3")
    assert set(found.missing) == {"smt", "transparent_huge_pages", "numa_policy", "memory_nodes"}


def test_a_value_that_is_no_text_can_be_kept() -> None:
    (variable,) = surroundings([Variable(name="LD_PRELOAD", value="/\udcff\x1b[2J")], []).variables or ()
    assert variable.value == "/??[2J"


@pytest.mark.parametrize(("numbers", "said"), [([], ""), ([5], "5"), ([3, 0, 1], "0-1,3"), (range(8), "0-7")])
def test_the_kernels_list_format(numbers: list[int], said: str) -> None:
    assert listed(numbers) == said
