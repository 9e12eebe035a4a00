"""One GPU: what it can report, found out once, and its readings."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from probes.base.reading import OK, Reading, printable
from probes.base.timed_call import Call, Metric, failed, take
from probes.gpu.foreign_processes import NONE_OF_OURS, Strangers
from probes.gpu.gpm import Gpm
from probes.gpu.nvml_errors import GONE, NEVER, code, explain

if TYPE_CHECKING:
    from collections.abc import Callable

TEBIBYTE: Final = 2**40
UTILISATION: Final = Metric("utilisation_percent", "percent", 0, 100)
MEMORY_USED: Final = Metric("memory_used_bytes", "bytes", 0, 16 * TEBIBYTE)
MEMORY_RESERVED: Final = Metric("memory_reserved_bytes", "bytes", 0, 16 * TEBIBYTE)
MEMORY_TOTAL: Final = Metric("memory_total_bytes", "bytes", 1, 16 * TEBIBYTE)
POWER: Final = Metric("power_w", "watt", 0, 10_000)
SM_CLOCK: Final = Metric("sm_clock_mhz", "megahertz", 0, 20_000)
THROTTLE: Final = Metric("throttle_reasons", "bitmask", 0, 2**53)
MEMORY_CLOCK: Final = Metric("memory_clock_mhz", "megahertz", 0, 50_000)
POWER_LIMIT: Final = Metric("power_limit_w", "watt", 1, 10_000)
TEMPERATURE: Final = Metric("temperature_c", "celsius", -40, 150)
PROCESSES: Final = Metric("processes", "count", 0, 100_000)
FOREIGN: Final = "foreign_processes"
ENERGY: Final = Metric("energy_j", "joule", 0, 2**63 / 1000)

NOTE_MEMORY_V1: Final = "this driver counts its own reserved memory as used"
NOTE_POWER_AVERAGE: Final = "from nvmlDeviceGetPowerUsage, on Ampere and later an average over one second"
NOTE_MIG: Final = "partitioned by MIG: utilisation is not reported, and memory and energy are the whole GPU's"


@dataclass(frozen=True, slots=True)
class ComputeProcess:
    """A process with a CUDA context on a GPU. In a container `pid` is the host's; memory None where not told."""

    pid: int
    used_bytes: int | None


class Gpu:
    """A GPU as NVML sees it. Each metric is tried once in `probe`; `missing` says what it cannot report, and why.

    No method raises. `lost` holds the reason while the GPU does not respond.
    """

    def __init__(self, library: Any, handle: Any, index: int, now_ns: Callable[[], int]) -> None:
        self.library = library
        self.handle = handle
        self.index = index
        self.source = f"gpu{index}"
        self.now_ns = now_ns
        self.uuid = self._text("nvmlDeviceGetUUID")
        self.name = self._text("nvmlDeviceGetName")
        self.mig = self._mig()
        self.missing: dict[str, str] = {}
        self.notes: dict[str, str] = {"mig": NOTE_MIG} if self.mig else {}
        self.lost: str | None = None
        self._fast: list[Call] = []
        self._occupancy: list[Call] = []
        self._slow: list[Call] = []
        self._energy: Call | None = None
        self._energy_before = 0.0
        self._energy_turn = threading.Lock()
        self._gpm: Gpm | None = None
        self.strangers = Strangers()
        self._listed: tuple[int, ...] = ()

    # What it can report

    def probe(self) -> list[Reading]:
        """Try every metric once. Gives a reading without a value for each that this GPU does not report."""
        nvml = self.library
        absent: list[Reading] = []

        def first(*ways: tuple[Call, str | None]) -> list[Call]:
            """The first way that works or that fails only for now; none: the metric is missing for the last reason."""
            reason, call = "", ways[0][0]
            for call, note in ways:
                try:
                    take(self.source, call, self.now_ns)
                except Exception as error:
                    never = code(error) in NEVER or isinstance(error, AttributeError)
                    reason = explain(error)
                    if never:
                        continue
                if note:
                    self.notes[call.metrics[0].name] = note
                return [call]
            for call, _ in ways:
                for metric in call.metrics:
                    self.missing.setdefault(metric.name, reason)
            absent.extend(failed(self.source, ways[0][0], reason, self.now_ns()))
            return []

        self._occupancy = [
            *first((Call((UTILISATION,), self._utilisation), None)),
            *first(
                (Call((MEMORY_USED, MEMORY_RESERVED, MEMORY_TOTAL), self._memory_v2), None),
                (Call((MEMORY_USED, MEMORY_TOTAL), self._memory_v1), NOTE_MEMORY_V1),
            ),
        ]
        self._fast = [
            *first(
                (Call((POWER,), self._power_instant), None),
                (Call((POWER,), self._power_average), NOTE_POWER_AVERAGE),
            ),
            *first((Call((SM_CLOCK,), lambda: (self._clock(nvml.NVML_CLOCK_SM),)), None)),
            *first(
                (Call((THROTTLE,), lambda: (nvml.nvmlDeviceGetCurrentClocksEventReasons(self.handle),)), None),
                (Call((THROTTLE,), lambda: (nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle),)), None),
            ),
        ]
        gpu_sensor = nvml.NVML_TEMPERATURE_GPU
        self._slow = [
            *first(
                (Call((TEMPERATURE,), lambda: (nvml.nvmlDeviceGetTemperatureV(self.handle, gpu_sensor),)), None),
                (Call((TEMPERATURE,), lambda: (nvml.nvmlDeviceGetTemperature(self.handle, gpu_sensor),)), None),
            ),
            *first((Call((MEMORY_CLOCK,), lambda: (self._clock(nvml.NVML_CLOCK_MEM),)), None)),
            *first((Call((POWER_LIMIT,), lambda: (nvml.nvmlDeviceGetEnforcedPowerLimit(self.handle) / 1000,)), None)),
            *first((Call((PROCESSES,), self._count_processes), None)),
        ]
        energy = first((Call((ENERGY,), lambda: (nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000,)), None))
        self._energy = energy[0] if energy else None
        if any(MEMORY_RESERVED in call.metrics for call in self._occupancy):
            self.missing.pop(MEMORY_RESERVED.name, None)
        elif any(MEMORY_USED in call.metrics for call in self._occupancy):
            reason = "this driver does not separate reserved from used memory: update the driver"
            self.missing[MEMORY_RESERVED.name] = reason
            absent.extend(failed(self.source, Call((MEMORY_RESERVED,), tuple), reason, self.now_ns()))
        self._gpm = Gpm(nvml, self.handle, self.now_ns)
        if self._gpm.reason is not None:
            self.missing |= {metric.name: self._gpm.reason for metric in self._gpm.call.metrics}
            absent.extend(failed(self.source, self._gpm.call, self._gpm.reason, self.now_ns()))
            self._gpm = None
        return absent

    # Its readings

    def fast(self) -> list[Reading]:
        """Instant power, SM clock and throttle reasons: about 90 µs. Nothing while it is lost."""
        return [] if self.lost else self._take(self._fast)

    def occupancy(self) -> list[Reading]:
        """Utilisation and memory: about 110 µs. Nothing while it is lost."""
        return [] if self.lost else self._take(self._occupancy)

    def slow(self) -> list[Reading]:
        """Temperature, memory clock, power limit, processes and how many are not ours. While it is lost: is it back?"""
        if self.lost is None:
            readings = self._take(self._slow)
            counted = any(reading.metric == PROCESSES.name and reading.status == OK for reading in readings)
            return [*readings, self._foreign()] if counted else readings
        self.lost = None
        return self._take([*self._occupancy, *self._fast])

    def energy(self) -> list[Reading]:
        """The total energy counter, joules since the driver was loaded (about 4 ms). May be called from any thread."""
        call = self._energy
        if call is None or self.lost:
            return []
        with self._energy_turn:
            readings = self._take([call])
            value = readings[0].value
            if value is None:
                return readings
            before, self._energy_before = self._energy_before, value
        if value < before:
            status = f"the energy counter went backwards from {before:.3f} J to {value:.3f} J: was the driver reloaded?"
            return failed(self.source, call, status, readings[0].t_ns, readings[0].call_us)
        return readings

    def gpm(self) -> list[Reading]:
        """SM and DRAM utilisation since the last call; nothing if that was less than 100 ms ago."""
        if self._gpm is None or self.lost:
            return []
        if not self._gpm.begun:
            try:
                self._gpm.begin()
            except Exception as error:
                return self._failed(self._gpm.call, error)
            return []
        if not self._gpm.due():
            return []
        return self._take([self._gpm.call])

    def compute_processes(self) -> list[ComputeProcess]:
        """The processes with a compute context here. Raises what NVML raises."""
        return [
            ComputeProcess(int(process.pid), process.usedGpuMemory)
            for process in self.library.nvmlDeviceGetComputeRunningProcesses(self.handle)
        ]

    def _take(self, calls: list[Call]) -> list[Reading]:
        readings: list[Reading] = []
        for call in calls:
            try:
                readings += take(self.source, call, self.now_ns)
            except Exception as error:  # a driver may answer anything, and a reading is not worth a session
                readings += self._failed(call, error)
                if self.lost:
                    break
        if self.lost:
            at, had = self.now_ns(), {reading.metric for reading in readings}
            unread = [reading for call in calls for reading in failed(self.source, call, self.lost, at)]
            readings += [reading for reading in unread if reading.metric not in had]
        return readings

    def _failed(self, call: Call, error: Exception) -> list[Reading]:
        reason = explain(error)
        if code(error) in GONE:
            self.lost = reason
        return failed(self.source, call, reason, self.now_ns())

    # Ways to read

    def _utilisation(self) -> tuple[float]:
        return (self.library.nvmlDeviceGetUtilizationRates(self.handle).gpu,)

    def _memory_v2(self) -> tuple[float, float, float]:
        memory = self.library.nvmlDeviceGetMemoryInfo(self.handle, version=self.library.nvmlMemory_v2)
        return memory.used, memory.reserved, memory.total

    def _memory_v1(self) -> tuple[float, float]:
        memory = self.library.nvmlDeviceGetMemoryInfo(self.handle)
        return memory.used, memory.total

    def _power_instant(self) -> tuple[float]:
        field = self.library.nvmlDeviceGetFieldValues(self.handle, [self.library.NVML_FI_DEV_POWER_INSTANT])[0]
        if field.nvmlReturn != 0:
            raise self.library.NVMLError(field.nvmlReturn)
        return (field.value.uiVal / 1000,)

    def _power_average(self) -> tuple[float]:
        return (self.library.nvmlDeviceGetPowerUsage(self.handle) / 1000,)

    def _count_processes(self) -> tuple[float]:
        self._listed = tuple(process.pid for process in self.compute_processes())
        return (len(self._listed),)

    def _foreign(self) -> Reading:
        before = self.now_ns()
        count = self.strangers.count(self._listed)
        after = self.now_ns()
        value, status = (None, NONE_OF_OURS) if count is None else (float(count), OK)
        return Reading(self.source, FOREIGN, "count", value, (before + after) // 2, (after - before) / 1000, status)

    def _clock(self, kind: int) -> float:
        return float(self.library.nvmlDeviceGetClockInfo(self.handle, kind))

    def _text(self, function: str) -> str:
        try:
            return printable(str(getattr(self.library, function)(self.handle)))
        except Exception as error:
            return f"unknown ({explain(error)})"

    def _mig(self) -> bool:
        try:
            return bool(self.library.nvmlDeviceGetMigMode(self.handle)[0])
        except Exception:  # not supported before Ampere
            return False
