"""The capture of the machine, its clocks and its other tenants."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from probes.base.clock import clock_anchors
from probes.capture import capture
from probes.gpu.co_tenants import busy_processes, gpu_tenants
from probes.gpu.nvml import Nvml
from probes.machine import Cache, Machine
from tests.probes.fake_nvml import GIB, FakeNvml

if TYPE_CHECKING:
    from pathlib import Path


def no_driver() -> Nvml:
    library = FakeNvml()
    library.fail["nvmlInit"] = 12
    return Nvml(library)


def unexplained(machine: Machine) -> set[str]:
    may_be_none = {"hypervisor", "container", "cgroup_memory_bytes", "cgroup_cpus", "cuda_visible_devices"}
    empty = {name for name, value in asdict(machine).items() if value is None or value == ()}
    return empty - may_be_none - set(machine.missing)


def test_this_machine_is_captured_and_every_gap_has_a_reason() -> None:
    machine = capture(Nvml())
    assert json.loads(json.dumps(asdict(machine)))["kernel"] == machine.kernel
    assert machine.ram_total_bytes == psutil.virtual_memory().total
    assert machine.cores_logical == psutil.cpu_count()
    assert machine.affinity
    assert unexplained(machine) == set()


def test_without_a_driver_the_gpus_are_missing_with_the_reason() -> None:
    machine = capture(no_driver())
    assert machine.gpus == ()
    assert machine.missing["gpus"] == machine.missing["gpu_driver"]
    assert "no NVIDIA driver" in machine.missing["gpus"]
    assert unexplained(machine) == set()


def test_gpus_are_captured_with_the_uuid_of_their_source() -> None:
    library = FakeNvml(2)
    library.fail["nvmlDeviceGetEccMode", 1] = 3
    machine = capture(Nvml(library))
    assert (machine.gpu_driver, machine.cuda_driver) == ("580.159.04", "13.0")
    first, second = machine.gpus
    assert [(gpu.source, gpu.uuid) for gpu in machine.gpus] == [("gpu0", library.uuid(0)), ("gpu1", library.uuid(1))]
    assert first.pci_bus_id == "00000000:01:00.0"
    assert first.compute_capability == "9.0"
    assert first.memory_total_bytes == 140 * GIB
    assert first.memory_bandwidth_bytes_s == 2 * 3201e6 * 6144 / 8
    assert first.power_limit_w == 700
    assert (first.pcie_generation, first.pcie_width, first.persistence, first.ecc) == (5, 16, True, True)
    assert second.ecc is None
    assert "not supported" in second.missing["ecc"]
    assert json.dumps(asdict(machine))


def test_a_bandwidth_without_its_factors_is_missing() -> None:
    library = FakeNvml()
    library.fail["nvmlDeviceGetMemoryBusWidth"] = 3
    (gpu,) = capture(Nvml(library)).gpus
    assert gpu.memory_bandwidth_bytes_s is None
    assert set(gpu.missing) == {"memory_bus_width_bits", "memory_bandwidth_bytes_s"}


def test_an_empty_system_raises_nothing(tmp_path: Path) -> None:
    machine = capture(no_driver(), tmp_path)
    assert {"boot_id", "caches", "governor", "ram_total_bytes", "rapl"} <= set(machine.missing)
    assert machine.hypervisor is None
    assert unexplained(machine) == set()


def test_what_a_big_server_tells(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    write("proc/cpuinfo", "model name\t: Big CPU\nflags\t: fpu hypervisor\n\nmodel name\t: Other\n")
    write("proc/meminfo", "MemTotal:       1024 kB\nSwapTotal:   0 kB\n")
    write("proc/1/cgroup", "0::/kubepods/pod1\n")
    write("etc/os-release", 'NAME="x"\nPRETTY_NAME="Some Linux 3"\n')
    write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    write("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "3800000\n")
    write("sys/class/dmi/id/sys_vendor", "Vendor\n")
    write("sys/class/powercap/intel-rapl:0/energy_uj", "1\n")
    for name, text in {"level": "3", "type": "Unified", "size": "32M", "shared_cpu_list": "0-7"}.items():
        write(f"sys/devices/system/cpu/cpu0/cache/index3/{name}", text)
    for node in range(2):
        (tmp_path / f"sys/devices/system/node/node{node}").mkdir(parents=True)
    machine = capture(no_driver(), tmp_path)
    assert machine.cpu_model == "Big CPU"
    assert machine.ram_total_bytes == 1024 * 1024
    assert machine.swap_total_bytes == 0
    assert machine.container == "kubepods"
    assert machine.hypervisor == "Vendor"
    assert machine.os == "Some Linux 3"
    assert (machine.governor, machine.cpu_max_mhz) == ("performance", 3800.0)
    assert machine.caches == (Cache(level=3, kind="Unified", size_bytes=32 * 2**20, shared_by="0-7"),)
    assert machine.numa_nodes == 2
    assert machine.rapl == "readable, not sampled"


def test_the_anchors_are_one_instant_on_both_clocks() -> None:
    before = time.perf_counter_ns(), time.time_ns()
    anchors = clock_anchors()
    after = time.perf_counter_ns(), time.time_ns()
    assert before[0] <= anchors.monotonic_ns <= after[0]
    assert before[1] <= anchors.realtime_ns <= after[1]
    assert 0 <= anchors.uncertainty_ns < 1_000_000_000
    assert anchors.hostname


def test_a_busy_process_is_named_unless_it_is_ours() -> None:
    burning = subprocess.Popen(
        [sys.executable, "-I", "-c", "print('on', flush=True)\nwhile True: pass"], stdout=subprocess.PIPE
    )
    try:
        assert burning.stdout is not None
        burning.stdout.readline()
        process = psutil.Process(burning.pid)

        def until_it_burnt(seconds: float) -> None:
            goal, deadline = process.cpu_times().user + seconds, time.monotonic() + 60
            while process.cpu_times().user < goal and time.monotonic() < deadline:
                subprocess.run([sys.executable, "-I", "-c", ""], check=True)

        found = {busy.pid: busy for busy in busy_processes(window_s=0.2, above_percent=5, wait=until_it_burnt)}
        assert found[burning.pid].cpu_percent > 5
        assert found[burning.pid].name.startswith("python")
        ours = busy_processes([psutil.Process().pid], 0.1, 5, until_it_burnt)
        assert burning.pid not in {busy.pid for busy in ours}
    finally:
        burning.kill()
        burning.communicate()


def test_gpu_tenants_are_the_others_on_our_gpus() -> None:
    library = FakeNvml(3)
    own = psutil.Process().pid
    library.give["nvmlDeviceGetComputeRunningProcesses"] = [
        SimpleNamespace(pid=own, usedGpuMemory=GIB),
        SimpleNamespace(pid=2**31 - 2, usedGpuMemory=None),
    ]
    nvml = Nvml(library)
    found = gpu_tenants(nvml, {library.uuid(0)}, [own])
    assert [(tenant.pid, tenant.name, tenant.used_bytes) for tenant in found.tenants] == [(2**31 - 2, None, None)]
    library.fail["nvmlDeviceGetComputeRunningProcesses", 1] = 4
    broken = gpu_tenants(nvml, {library.uuid(0), library.uuid(1)})
    assert {tenant.gpu_uuid for tenant in broken.tenants} == {library.uuid(0)}
    assert "/dev/nvidia" in broken.missing[library.uuid(1)]


def test_the_capture_ignores_terminal_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml()
    library.give["nvmlDeviceGetName"] = "GPU\x1b[2J"
    monkeypatch.setenv("container", "box\x1b[2J")
    machine = capture(Nvml(library))
    assert machine.gpus[0].name == "GPU?[2J"
    assert machine.container == "box?[2J"
