"""NVML's GPU performance monitoring (Hopper and later): SM and DRAM utilisation between two samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from probes.base.timed_call import Call, Metric
from probes.gpu.nvml_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable

SHORTEST_NS: Final = 100_000_000
SM_ACTIVE: Final = Metric("sm_active_percent", "percent", 0, 100.5)  # the counters' rounding may pass 100 by a little
DRAM_ACTIVE: Final = Metric("dram_active_percent", "percent", 0, 100.5)


class Gpm:
    """Two samples of one GPU, each the start of the next interval. `reason` says why there is none, else it is None.

    The interval is what lies between two samples. Over less than 100 ms NVML gives no number, so none is `due` before.
    """

    def __init__(self, library: Any, handle: Any, now_ns: Callable[[], int]) -> None:
        self.call: Final = Call((SM_ACTIVE, DRAM_ACTIVE), self.since_last)
        self.begun = False
        self.reason: str | None = None
        self._now_ns = now_ns
        self._sampled_ns = 0
        self._library = library
        self._handle = handle
        try:
            if not library.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self.reason = "needs a Hopper or later GPU"
                return
            self._older = library.nvmlGpmSampleAlloc()
            self._newer = library.nvmlGpmSampleAlloc()
            wanted = library.c_nvmlGpmMetricsGet_t()
            wanted.version = library.NVML_GPM_METRICS_GET_VERSION
            wanted.numMetrics = 2
            wanted.metrics[0].metricId = library.NVML_GPM_METRIC_SM_UTIL
            wanted.metrics[1].metricId = library.NVML_GPM_METRIC_DRAM_BW_UTIL
            self._wanted = wanted
            # looked up once: every step from a structure of pynvml to a field of it runs Python code
            self._metrics = (wanted.metrics[0], wanted.metrics[1])
            self.begin()
        except Exception as error:
            self.reason = explain(error)

    def begin(self) -> None:
        """Take the first sample of an interval. Raises what NVML raises."""
        self.begun = False
        self._library.nvmlGpmSampleGet(self._handle, self._older)
        self._sampled_ns = self._now_ns()
        self.begun = True

    def due(self) -> bool:
        """Whether the last sample is long enough ago for the next."""
        return self._now_ns() - self._sampled_ns > SHORTEST_NS

    def since_last(self) -> tuple[float, float]:
        """(SM, DRAM) utilisation in percent since the last sample. Raises what NVML raises."""
        library = self._library
        try:
            library.nvmlGpmSampleGet(self._handle, self._newer)
            self._sampled_ns = self._now_ns()
            self._wanted.sample1, self._wanted.sample2 = self._older, self._newer
            library.nvmlGpmMetricsGet(self._wanted)
        except Exception:
            self.begun = False
            raise
        self._older, self._newer = self._newer, self._older
        sm, dram = self._metrics
        for metric in self._metrics:
            if metric.nvmlReturn != 0:
                raise library.NVMLError(metric.nvmlReturn)
        return sm.value, dram.value
