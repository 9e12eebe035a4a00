"""NVML's readings, and what becomes of a driver that fails, lies or loses the GPU."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from probes.base.timed_call import RETURNED_RUBBISH
from probes.gpu.foreign_processes import NONE_OF_OURS
from probes.gpu.nvml import Nvml
from probes.gpu.nvml_errors import NOT_FOUND
from probes.gpu.throttle import slows, throttle_words
from tests.probes.fake_nvml import GIB, FakeNvml

if TYPE_CHECKING:
    from probes.base.reading import Reading

OCCUPANCY = {
    "utilisation_percent": 98.0,
    "memory_used_bytes": 3.0 * GIB,
    "memory_reserved_bytes": 0.5 * GIB,
    "memory_total_bytes": 140.0 * GIB,
}
FAST = {
    "power_w": 312.5,
    "sm_clock_mhz": 1980.0,
    "throttle_reasons": 4.0,
}
SLOW = {
    "temperature_c": 41.0,
    "memory_clock_mhz": 3201.0,
    "power_limit_w": 700.0,
    "processes": 1.0,
    "foreign_processes": None,  # the only one listed is not to be found here
}


def values(readings: Any) -> dict[str, float | None]:
    return {reading.metric: reading.value for reading in readings}


def statuses(readings: Any) -> dict[str, str]:
    return {reading.metric: reading.status for reading in readings}


class Ticking:
    """A clock on which every look is 60 ms later, so that ticks lie as far apart as they do in a session."""

    def __init__(self) -> None:
        self.time_ns = 0

    def __call__(self) -> int:
        self.time_ns += 60_000_000
        return self.time_ns


def ten_ticks(nvml: Nvml, first: int = 0) -> list[Reading]:
    return [reading for turn in range(first, first + 10) for reading in (*nvml.fast(), *nvml.slow(turn))]


def test_every_metric_is_read_in_its_unit() -> None:
    nvml = Nvml(FakeNvml(), Ticking())
    opened = nvml.open()
    assert values(opened) == {"gpus": 1.0}
    assert values(nvml.fast()) == FAST
    readings = ten_ticks(nvml)
    assert sum(reading.metric == "power_w" for reading in readings) == 10
    assert sum(reading.metric == "utilisation_percent" for reading in readings) == 5
    assert sum(reading.metric == "memory_used_bytes" for reading in readings) == 5
    assert sum(reading.metric == "dram_active_percent" for reading in readings) == 3, "at 0, 4 and 8"
    read = values(readings)
    assert read.pop("energy_j") is not None
    assert read == FAST | OCCUPANCY | SLOW | {"sm_active_percent": 97.0, "dram_active_percent": 24.5}


def test_costs_can_be_summed_and_times_are_midpoints() -> None:
    now = [0]

    def spend(nanoseconds: int) -> None:
        now[0] += nanoseconds

    nvml = Nvml(FakeNvml(spend=spend), lambda: now[0])
    nvml.open()
    before = now[0]
    readings = [*nvml.gpus[0].occupancy(), *nvml.fast()]
    assert sum(reading.call_us for reading in readings) * 1000 == now[0] - before == 18_000
    memory = [reading for reading in readings if reading.metric.startswith("memory_")]
    assert [reading.call_us for reading in memory] == [7.0, 0.0, 0.0]
    assert {reading.t_ns for reading in memory} == {before + 2000 + 3500}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (12, NOT_FOUND),
        (9, "modprobe nvidia"),
        (18, "reboot"),
        (4, "/dev/nvidia"),
        (999, "NVML error 999"),
        (ImportError("pynvml"), "pip install nvidia-ml-py"),
        (OSError("bad\x1b[31m"), "bad?[31m"),
    ],
)
def test_a_driver_that_does_not_start_is_a_sentence_and_no_gpus(error: int | Exception, says: str) -> None:
    library = FakeNvml()
    library.fail["nvmlInit"] = error
    nvml = Nvml(library)
    (reading,) = nvml.open()
    assert (reading.source, reading.metric, reading.value) == ("host", "gpus", None)
    assert nvml.reason is not None
    assert says in reading.status == nvml.reason
    assert "\x1b" not in nvml.reason
    assert nvml.gpus == ()
    assert ten_ticks(nvml) == []
    assert nvml.energy_now() == ()
    assert library.calls.count(("nvmlInit", None)) == 1


def test_the_real_library_says_what_this_machine_has() -> None:
    nvml = Nvml()
    (first, *_) = nvml.open()
    if nvml.gpus:
        assert first.value == len(nvml.gpus)
        assert all(reading.value is not None for reading in nvml.gpus[0].fast() if reading.metric == "power_w")
    else:
        assert first.value is None
        assert first.status == nvml.reason


def test_a_driver_without_gpus_says_so() -> None:
    nvml = Nvml(FakeNvml(count=0))
    nvml.open()
    assert nvml.reason is not None
    assert "lists no GPU" in nvml.reason


def test_one_gpu_that_cannot_be_opened_leaves_the_others() -> None:
    library = FakeNvml(count=3)
    library.fail["nvmlDeviceGetHandleByIndex", 1] = 15
    nvml = Nvml(library)
    opened = nvml.open()
    assert [gpu.source for gpu in nvml.gpus] == ["gpu0", "gpu2"]
    assert any(reading.source == "gpu1" and "bus" in reading.status for reading in opened)
    read = ten_ticks(nvml)
    assert {(reading.source, reading.metric) for reading in read} >= {("gpu0", "energy_j"), ("gpu2", "energy_j")}


@pytest.mark.parametrize("error", [3, 13])
def test_an_unsupported_metric_is_tried_once_and_absent_with_its_reason(error: int) -> None:
    library = FakeNvml()
    library.fail["nvmlDeviceGetUtilizationRates"] = error
    library.fail["nvmlDeviceGetTotalEnergyConsumption"] = error
    nvml = Nvml(library)
    opened = statuses(nvml.open())
    missing = nvml.gpus[0].missing
    assert set(missing) == {"utilisation_percent", "energy_j"}
    assert opened["utilisation_percent"] == missing["utilisation_percent"]
    metrics = set(values(ten_ticks(nvml)))
    assert metrics & {"utilisation_percent", "energy_j"} == set()
    assert library.calls.count(("nvmlDeviceGetUtilizationRates", 0)) == 1
    (energy,) = nvml.energy_now()
    assert energy.value is None
    assert energy.status == missing["energy_j"]


def test_older_drivers_are_asked_in_the_older_way() -> None:
    library = FakeNvml()
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetTemperatureV"):
        library.fail[name] = 13
    library.give["nvmlDeviceGetFieldValues"] = [SimpleNamespace(nvmlReturn=3, value=SimpleNamespace(uiVal=0))]
    nvml = Nvml(library)
    nvml.open()
    read = values(ten_ticks(nvml))
    assert read["throttle_reasons"] == 4.0
    assert read["temperature_c"] == 41.0
    assert read["power_w"] == 300.0
    assert "average over one second" in nvml.gpus[0].notes["power_w"]


def test_memory_without_version_2_says_that_reserved_memory_is_counted_in() -> None:
    class Old(FakeNvml):
        def _answer(self, name: str, handle: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
            if name == "nvmlDeviceGetMemoryInfo" and options:
                raise self.NVMLError(13)
            return super()._answer(name, handle, arguments, options)

    nvml = Nvml(Old())
    opened = statuses(nvml.open())
    assert "update the driver" in opened["memory_reserved_bytes"]
    read = values(nvml.gpus[0].occupancy())
    assert read["memory_used_bytes"] == 3.5 * GIB
    assert "memory_reserved_bytes" not in read
    assert nvml.gpus[0].notes["memory_used_bytes"]


def test_gpm_is_absent_before_hopper() -> None:
    library = FakeNvml()
    library.give["nvmlGpmQueryDeviceSupport"] = SimpleNamespace(isSupportedDevice=0)
    nvml = Nvml(library)
    assert "Hopper" in statuses(nvml.open())["sm_active_percent"]
    assert "sm_active_percent" not in values(ten_ticks(nvml))


def test_gpm_spans_four_ticks_and_begins_anew_after_a_failure() -> None:
    library, now = FakeNvml(), [0]
    nvml = Nvml(library, lambda: now[0])
    nvml.open()

    def at(turn: int) -> dict[str, float | None]:
        now[0] = 1_000_000_000 + turn * 100_000_000
        return values(nvml.slow(turn))

    assert at(0)["sm_active_percent"] == 97.0
    assert not any("sm_active_percent" in at(turn) for turn in (1, 2, 3))
    library.fail["nvmlGpmMetricsGet"] = 999
    assert at(4)["sm_active_percent"] is None
    library.fail.clear()
    assert "sm_active_percent" not in at(8), "an interval across the failure is none"
    assert at(12)["sm_active_percent"] == 97.0


def test_gpm_is_not_asked_over_an_interval_too_short_for_it() -> None:
    library, now = FakeNvml(), [0]
    nvml = Nvml(library, lambda: now[0])
    nvml.open()
    now[0] += 100_000_000
    assert "sm_active_percent" not in values(nvml.slow(0))
    now[0] += 1
    assert values(nvml.slow(4))["sm_active_percent"] == 97.0


@pytest.mark.parametrize(
    ("call", "rubbish", "metric"),
    [
        ("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=4_294_967_295), "utilisation_percent"),
        ("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=-3), "utilisation_percent"),
        ("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=float("nan")), "utilisation_percent"),
        ("nvmlDeviceGetUtilizationRates", None, "utilisation_percent"),
        ("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu="warm"), "utilisation_percent"),
        ("nvmlDeviceGetMemoryInfo", SimpleNamespace(used=2**64 - 1, reserved=0, total=GIB), "memory_used_bytes"),
        ("nvmlDeviceGetMemoryInfo", SimpleNamespace(used=0, reserved=0, total=0), "memory_total_bytes"),
        ("nvmlDeviceGetFieldValues", [], "power_w"),
        (
            "nvmlDeviceGetFieldValues",
            [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=2**32 - 1))],
            "power_w",
        ),
        ("nvmlDeviceGetClockInfo", 2**32 - 1, "sm_clock_mhz"),
        ("nvmlDeviceGetTemperatureV", -2147483648, "temperature_c"),
        ("nvmlDeviceGetComputeRunningProcesses", 7, "processes"),
        ("nvmlDeviceGetTotalEnergyConsumption", -1, "energy_j"),
    ],
)
def test_rubbish_from_the_driver_is_a_reason_and_no_value(call: str, rubbish: Any, metric: str) -> None:
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.open()
    library.give[call] = rubbish
    read = [reading for reading in ten_ticks(nvml) if reading.metric == metric]
    assert read
    for reading in read:
        assert reading.value is None
        assert reading.status.startswith((RETURNED_RUBBISH, "reading it failed"))


def test_an_energy_counter_that_goes_back_is_no_value_once() -> None:
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.open()
    (first,) = nvml.energy_now()
    library.energy_mj = 0
    (second,) = nvml.energy_now()
    (third,) = nvml.energy_now()
    assert first.value is not None
    assert second.value is None
    assert "went back" in second.status
    assert third.value == 2.0


@pytest.mark.parametrize(("error", "says"), [(15, "fallen off the bus"), (16, "--gpu-reset")])
def test_a_lost_gpu_says_so_for_every_metric_and_is_asked_again_once_a_second(error: int, says: str) -> None:
    library = FakeNvml(count=2)
    nvml = Nvml(library)
    nvml.open()
    library.fail["nvmlDeviceGetFieldValues", 0] = error
    at_loss = statuses(reading for reading in nvml.fast() if reading.source == "gpu0")
    assert set(at_loss) == set(FAST)
    assert all(says in status for status in at_loss.values())
    library.calls.clear()
    later = ten_ticks(nvml)
    assert library.calls.count(("nvmlDeviceGetFieldValues", 0)) == 1
    of_the_lost = [reading for reading in later if reading.source == "gpu0" and reading.value is None]
    assert {reading.metric for reading in of_the_lost} == set(FAST)
    assert sum(reading.source == "gpu1" and reading.metric == "power_w" for reading in later) == 10
    energies = {reading.source: reading for reading in nvml.energy_now()}
    assert energies["gpu0"].value is None
    assert says in energies["gpu0"].status
    assert energies["gpu1"].value is not None
    library.fail.clear()
    back = [reading for reading in ten_ticks(nvml, 10) if reading.source == "gpu0" and reading.value is not None]
    assert {reading.metric for reading in back} >= set(FAST | OCCUPANCY)


def test_a_passing_fault_is_noted_and_the_next_reading_counts_again() -> None:
    library = FakeNvml()
    library.fail["nvmlDeviceGetUtilizationRates"] = 999
    nvml = Nvml(library)
    nvml.open()
    assert "utilisation_percent" not in nvml.gpus[0].missing
    (reading,) = (one for one in nvml.gpus[0].occupancy() if one.metric == "utilisation_percent")
    assert reading.value is None
    assert "NVML error 999" in reading.status
    assert "\x1b" not in reading.status
    library.fail.clear()
    assert values(nvml.gpus[0].occupancy())["utilisation_percent"] == 98.0


def test_energy_now_asks_only_the_gpus_wanted() -> None:
    library = FakeNvml(count=3)
    nvml = Nvml(library)
    assert [reading.source for reading in nvml.energy_now({library.uuid(1)})] == ["gpu1"]
    assert [reading.source for reading in nvml.energy_now()] == ["gpu0", "gpu1", "gpu2"]


def test_energy_now_leaves_the_driver_to_the_sampler_after_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml(count=3)
    nvml = Nvml(library)
    nvml.open()
    breaths: list[float] = []

    def breathe(seconds: float) -> None:
        breaths.append(seconds)
        library.calls.append(("the sampler's turn", None))

    monkeypatch.setattr("probes.gpu.nvml.time.sleep", breathe)
    library.calls.clear()
    nvml.energy_now()
    energy, turn = "nvmlDeviceGetTotalEnergyConsumption", ("the sampler's turn", None)
    assert library.calls == [(energy, 0), turn, (energy, 1), turn, (energy, 2)]
    assert min(breaths) >= 0.01


def test_energy_now_does_not_hang_with_the_driver() -> None:
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.open()
    release = threading.Event()

    def hang(name: str) -> None:
        if name == "nvmlDeviceGetTotalEnergyConsumption":
            release.wait(30)

    library.before_call = hang
    try:
        (reading,) = nvml.energy_now(timeout_s=0.05)
    finally:
        release.set()
    assert reading.value is None
    assert "did not answer within 0.05 s" in reading.status


def test_mig_is_noted() -> None:
    library = FakeNvml()
    library.give["nvmlDeviceGetMigMode"] = [1, 1]
    library.fail["nvmlDeviceGetUtilizationRates"] = 3
    nvml = Nvml(library)
    nvml.open()
    assert nvml.gpus[0].mig
    assert "MIG" in nvml.gpus[0].notes["mig"]


def test_throttle_reasons_in_words() -> None:
    assert throttle_words(0.0) == ()
    assert throttle_words(float(0x4 | 0x40)) == ("power cap", "thermal slowdown by hardware")
    assert throttle_words(0x1 | 0x8000) == ("idle", "unknown reason 0x8000")
    assert slows(0x4)
    assert not slows(0x1 | 0x2)


def test_processes_that_are_not_ours_are_counted_once_one_of_ours_is_seen() -> None:
    library = FakeNvml()
    nvml = Nvml(library)
    nvml.open()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for listed, foreign in (
            ([], 0.0),
            ([child.pid], 0.0),
            ([child.pid, 1], 1.0),
            ([child.pid, 1, 2**31 - 2], 1.0),  # the last has ended, or is nobody's
            ([1], None),  # in a container: ids of another namespace
        ):
            library.give["nvmlDeviceGetComputeRunningProcesses"] = [
                SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in listed
            ]
            read = ten_ticks(nvml)
            assert values(read)["processes"] == len(listed)
            assert values(read)["foreign_processes"] == foreign
            assert statuses(read)["foreign_processes"] == ("ok" if foreign is not None else NONE_OF_OURS)
    finally:
        child.communicate()
    library.fail["nvmlDeviceGetComputeRunningProcesses"] = 999
    assert "foreign_processes" not in values(ten_ticks(nvml))
