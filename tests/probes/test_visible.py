"""Which GPUs may be used, and which is the idlest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from probes.gpu.nvml import Nvml
from probes.gpu.visible_gpus import idlest_gpus, visible_gpus
from tests.probes.fake_nvml import GIB, FakeNvml

FOUR = FakeNvml(4)


def indices(listed: str | None) -> list[int]:
    environment = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    return [gpu.index for gpu in visible_gpus(Nvml(FakeNvml(4)), environment).gpus]


@pytest.mark.parametrize(
    ("listed", "seen"),
    [
        (None, [0, 1, 2, 3]),
        ("2", [2]),
        ("3,0", [3, 0]),
        (" 1 , 2 ", [1, 2]),
        (FOUR.uuid(3), [3]),
        (f"{FOUR.uuid(1)},{FOUR.uuid(0)}", [1, 0]),
        ("GPU-2aaa", [2]),
        ("GPU-", []),
        ("", []),
        ("-1", []),
        ("0,-1,2", [0]),
        ("1,9,2", [1]),
        ("rubbish", []),
        ("1,1", []),
        ("²", []),
    ],
)
def test_cuda_visible_devices_means_what_it_means_to_cuda(listed: str | None, seen: list[int]) -> None:
    assert indices(listed) == seen


def test_positions_are_within_the_list_and_devices_are_uuids() -> None:
    visible = visible_gpus(Nvml(FakeNvml(4)), {"CUDA_VISIBLE_DEVICES": "3,1"})
    assert [(gpu.position, gpu.index, gpu.device) for gpu in visible.gpus] == [
        (0, 3, FOUR.uuid(3)),
        (1, 1, FOUR.uuid(1)),
    ]


@pytest.mark.parametrize(
    ("listed", "says"),
    [("", "hides every GPU"), ("7", "'7' names no GPU"), ("0,0", "twice"), ("x\x1b[2J", "'x?[2J' names no GPU")],
)
def test_an_empty_list_says_why(listed: str, says: str) -> None:
    visible = visible_gpus(Nvml(FakeNvml(4)), {"CUDA_VISIBLE_DEVICES": listed})
    assert says in (visible.reason or "")


def test_no_driver_is_no_gpu_with_the_reason() -> None:
    library = FakeNvml()
    library.fail["nvmlInit"] = 12
    visible = visible_gpus(Nvml(library), {})
    assert visible.gpus == ()
    assert "no NVIDIA driver" in (visible.reason or "")
    assert idlest_gpus(Nvml(library)) == []


def test_a_mig_device_belongs_to_its_gpu() -> None:
    library = FakeNvml(2)
    library.give["nvmlDeviceGetHandleByUUID"] = SimpleNamespace(uuid="MIG-1")
    library.give["nvmlDeviceGetDeviceHandleFromMigDeviceHandle"] = 1
    (gpu,) = visible_gpus(Nvml(library), {"CUDA_VISIBLE_DEVICES": "MIG-1"}).gpus
    assert (gpu.index, gpu.uuid, gpu.device, gpu.mig) == (1, FOUR.uuid(1), "MIG-1", True)


class Uneven(FakeNvml):
    """busy[i] percent and used[i] GiB on GPU i."""

    busy = (95, 0, 3, 0)
    used = (10, 100, 1, 0.5)

    def _answer(self, name: str, handle: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if name == "nvmlDeviceGetUtilizationRates":
            return SimpleNamespace(gpu=self.busy[handle])
        if name == "nvmlDeviceGetMemoryInfo":
            return SimpleNamespace(used=self.used[handle] * GIB, reserved=0, free=0, total=140 * GIB)
        return super()._answer(name, handle, arguments, options)


def test_the_idlest_gpu_is_not_busy_and_has_the_most_free_memory() -> None:
    nvml = Nvml(Uneven(4))
    everything = visible_gpus(nvml, {}).gpus
    assert [[gpu.index for gpu in idlest_gpus(nvml, everything[:n])] for n in range(5)] == [
        [],
        [0],
        [1, 0],
        [2, 1, 0],
        [3, 2, 1, 0],
    ]


def test_a_gpu_that_does_not_answer_is_the_last_choice() -> None:
    library = Uneven(4)
    nvml = Nvml(library)
    visible = visible_gpus(nvml, {}).gpus
    library.fail["nvmlDeviceGetMemoryInfo", 3] = 15
    assert [gpu.index for gpu in idlest_gpus(nvml, visible)] == [2, 1, 0, 3]


def test_the_visible_ones_are_asked_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    assert [(gpu.index, gpu.position) for gpu in idlest_gpus(Nvml(Uneven(4)))] == [(1, 0), (0, 1)]
