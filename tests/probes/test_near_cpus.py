"""Which CPUs are near a GPU, from the driver or the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.base.cpu_list import cpus_of, listed
from probes.capture import capture
from probes.gpu.near_cpus import UnknownError, near_cpus
from probes.gpu.nvml import Nvml
from tests.probes.fake_nvml import FakeNvml

BUS = "00000000:1B:00.0"


def test_each_gpus_own_are_captured() -> None:
    library = FakeNvml(2)
    library.near = {0: 0b1111, 1: 1 << 63 | 1 << 5}
    assert [gpu.near_cpus for gpu in capture(Nvml(library)).gpus] == [(0, 1, 2, 3), (5, 63)]


def test_the_second_word_is_of_the_next_64() -> None:
    library = FakeNvml()
    library.give["nvmlDeviceGetCpuAffinity"] = [1, 0b110]
    assert near_cpus(library, 0, BUS) == (0, 65, 66)


@pytest.mark.parametrize("named", [{}, {0: 0}])
def test_where_the_driver_does_not_say_the_kernel_does(tmp_path: Path, named: dict[int, int]) -> None:
    library = FakeNvml()
    library.near = named
    if not named:
        library.fail["nvmlDeviceGetCpuAffinity"] = 3
    (tmp_path / "0000:1b:00.0").mkdir()
    (tmp_path / "0000:1b:00.0" / "local_cpulist").write_text("0-2,8\n")
    assert near_cpus(library, 0, BUS, tmp_path) == (0, 1, 2, 8)


def test_where_neither_says_the_reason_is_the_drivers(tmp_path: Path) -> None:
    library = FakeNvml()
    library.fail["nvmlDeviceGetCpuAffinity"] = 3
    for bus in (BUS, None):
        with pytest.raises(UnknownError, match="not supported by this GPU or its driver"):
            near_cpus(library, 0, bus, tmp_path)
    library.fail["nvmlDeviceGetPciInfo"] = 3
    (gpu,) = capture(Nvml(library)).gpus
    assert gpu.near_cpus is None
    assert gpu.missing["near_cpus"] == "not supported by this GPU or its driver"


@pytest.mark.parametrize(("cpus", "text"), [([0, 1, 2, 7], "0-2,7"), ([3], "3"), ([4, 5, 9, 10, 11], "4-5,9-11")])
def test_the_kernels_list_format_is_read_and_written(cpus: list[int], text: str) -> None:
    assert listed(cpus) == text
    assert cpus_of(text) == cpus
