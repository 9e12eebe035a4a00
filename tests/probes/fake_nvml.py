"""A driver with faults: the module pynvml as far as probes calls it, with what its calls cost on an H200."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 2**30
# Microseconds, from readings on one H200 with driver 580; processes as dear as seen on other machines.
COSTS = {
    "nvmlDeviceGetUtilizationRates": 2,
    "nvmlDeviceGetMemoryInfo": 7,
    "nvmlDeviceGetFieldValues": 5,
    "nvmlDeviceGetClockInfo": 2,
    "nvmlDeviceGetCurrentClocksEventReasons": 2,
    "nvmlDeviceGetTemperatureV": 2,
    "nvmlDeviceGetTotalEnergyConsumption": 4100,
    "nvmlDeviceGetComputeRunningProcesses": 4500,
    "nvmlDeviceGetMaxClockInfo": 200,
    "nvmlDeviceGetMemoryBusWidth": 1500,
}


class FakeNvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error\x1b[31m {value}")
        self.value = value


class FakeNvml:
    """`fail[name]` is an error code, an exception or, for one GPU, `fail[name, index]`; `give[name]` replaces a value.

    `spend(nanoseconds)` is called with what each call costs.
    """

    NVMLError = FakeNvmlError
    NVML_FI_DEV_POWER_INSTANT = 186
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    NVML_GPM_METRICS_GET_VERSION = 1
    NVML_GPM_METRIC_SM_UTIL = 2
    NVML_GPM_METRIC_DRAM_BW_UTIL = 10
    nvmlMemory_v2 = 0x02000028  # noqa: N815 (pynvml's own name)

    def __init__(self, count: int = 1, spend: Callable[[int], None] = lambda nanoseconds: None) -> None:
        self.count = count
        self.spend = spend
        self.fail: dict[str | tuple[str, int], int | Exception] = {}
        self.give: dict[str, Any] = {}
        self.calls: list[tuple[str, int | None]] = []
        self.before_call: Callable[[str], None] = lambda name: None
        self.energy_mj = 1_000_000
        self.nvlinks = 18  # of each GPU, all to a switch
        self.near: dict[int, int] = {}  # the first 64 CPUs near a GPU as a mask
        self.peers: dict[tuple[int, int, int], int] = {}  # nvmlGpuP2PStatus_t by both GPUs and what is asked, else 0

    def uuid(self, index: int) -> str:
        return f"GPU-{index}aaaaaaa-0000-0000-0000-00000000000{index}"

    def __getattr__(self, name: str) -> Any:
        if not name.startswith(("nvml", "c_nvml")):
            raise AttributeError(name)
        return lambda *arguments, **options: self._call(name, *arguments, **options)

    def _call(self, name: str, handle: Any = None, *arguments: Any, **options: Any) -> Any:
        self.before_call(name)
        index = handle if isinstance(handle, int) else None
        self.calls.append((name, index))
        self.spend(COSTS.get(name, 2) * 1000)
        failure = self.fail.get((name, index if index is not None else -1), self.fail.get(name))
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            raise FakeNvmlError(failure)
        if name in self.give:
            return self.give[name]
        return self._answer(name, handle, arguments, options)

    def _answer(self, name: str, handle: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        match name:
            case "nvmlInit" | "nvmlGpmSampleGet" | "nvmlGpmMetricsGet":
                if name == "nvmlGpmMetricsGet":
                    handle.metrics[0].value, handle.metrics[1].value = 97.0, 24.5
                return None
            case "nvmlDeviceGetCount":
                return self.count
            case "nvmlSystemGetDriverVersion":
                return "580.159.04"
            case "nvmlSystemGetCudaDriverVersion_v2":
                return 13000
            case "nvmlDeviceGetHandleByIndex":
                return handle
            case "nvmlDeviceGetUUID":
                return self.uuid(handle) if isinstance(handle, int) else handle.uuid
            case "nvmlDeviceGetName":
                return "NVIDIA H200"
            case "nvmlDeviceGetMigMode":
                return [0, 0]
            case "nvmlDeviceGetUtilizationRates":
                return SimpleNamespace(gpu=98, memory=25)
            case "nvmlDeviceGetMemoryInfo" if "version" in options:
                return SimpleNamespace(used=3 * GIB, reserved=GIB // 2, free=136 * GIB, total=140 * GIB)
            case "nvmlDeviceGetMemoryInfo":
                return SimpleNamespace(used=3 * GIB + GIB // 2, free=136 * GIB, total=140 * GIB)
            case "nvmlDeviceGetFieldValues":
                return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=312_500))]
            case "nvmlDeviceGetPowerUsage":
                return 300_000
            case "nvmlDeviceGetClockInfo" | "nvmlDeviceGetMaxClockInfo":
                return 1980 if arguments[0] == self.NVML_CLOCK_SM else 3201
            case "nvmlDeviceGetCurrentClocksEventReasons" | "nvmlDeviceGetCurrentClocksThrottleReasons":
                return 0x4
            case "nvmlDeviceGetTemperatureV" | "nvmlDeviceGetTemperature":
                return 41
            case "nvmlDeviceGetEnforcedPowerLimit":
                return 700_000
            case "nvmlDeviceGetComputeRunningProcesses":
                return [SimpleNamespace(pid=4_100_000, usedGpuMemory=3 * GIB)]
            case "nvmlDeviceGetTotalEnergyConsumption":
                self.energy_mj += 1000
                return self.energy_mj
            case "nvmlGpmQueryDeviceSupport":
                return SimpleNamespace(isSupportedDevice=1)
            case "nvmlGpmSampleAlloc":
                return object()
            case "c_nvmlGpmMetricsGet_t":
                metrics = [SimpleNamespace(metricId=0, nvmlReturn=0, value=0.0) for _ in range(3)]
                return SimpleNamespace(version=0, numMetrics=0, sample1=None, sample2=None, metrics=metrics)
            case "nvmlDeviceGetP2PStatus":
                return self.peers.get((handle, *arguments), 0)
            case "nvmlDeviceGetTopologyCommonAncestor":
                return 40
            case "nvmlDeviceGetNvLinkState" if arguments[0] < self.nvlinks:
                return 1
            case "nvmlDeviceGetNvLinkRemotePciInfo":
                return SimpleNamespace(busId=b"00000000:F0:00.0")
            case "nvmlDeviceGetPciInfo":
                return SimpleNamespace(busId=f"00000000:{handle + 1:02X}:00.0".encode())
            case "nvmlDeviceGetCudaComputeCapability":
                return (9, 0)
            case "nvmlDeviceGetMemoryBusWidth":
                return 6144
            case "nvmlDeviceGetCurrPcieLinkGeneration" | "nvmlDeviceGetMaxPcieLinkGeneration":
                return 5
            case "nvmlDeviceGetCurrPcieLinkWidth" | "nvmlDeviceGetMaxPcieLinkWidth":
                return 16
            case "nvmlDeviceGetCpuAffinity":
                return [self.near.get(handle, 0xFFFF), *[0] * (arguments[0] - 1)]
            case "nvmlDeviceGetPersistenceMode":
                return 1
            case "nvmlDeviceGetEccMode":
                return [1, 1]
            case _:
                raise FakeNvmlError(13)
