"""The NVIDIA driver's management library behind one class: initialised once, on first use, and never raising."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from probes.base.reading import OK, Reading, printable
from probes.base.source import Source
from probes.gpu.gpu import ENERGY, Gpu
from probes.gpu.nvml_errors import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

NO_GPU: Final = "the NVIDIA driver lists no GPU: check `nvidia-smi` (a container must be started with its GPUs)"
TICKS_A_SECOND: Final = 10
GPM_TICKS: Final = 4
BREATH_S: Final = 0.01


class Nvml(Source):
    """The GPUs of this machine, in the order of their PCI addresses: a source of readings `gpu0`, `gpu1`…

    NVML starts at the first use of `gpus` or `open` (which may take seconds); `reason` then says why there are no GPUs,
    or is None. `library` is the module pynvml or something that behaves like it.
    """

    name = "gpus"

    def __init__(self, library: Any = None, now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self.reason: str | None = None
        self.driver: str | None = None
        self.cuda_driver: str | None = None
        self._library = library
        self._now_ns = now_ns
        self._gpus: tuple[Gpu, ...] | None = None
        self._absent: tuple[Reading, ...] = ()
        self._starting = threading.Lock()

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Every GPU, probed; empty when there is none (`reason` says why)."""
        with self._starting:
            if self._gpus is None:
                try:
                    self._gpus = self._start()
                except Exception as error:
                    self._gpus, self.reason = (), explain(error)
            return self._gpus

    @property
    def library(self) -> Any:
        """The module pynvml, for calls on the handles of `gpus`; meaningful only where there are any."""
        return self._library

    def also_ours(self, pids: Collection[int]) -> None:
        """Have these processes, and what they started, count as no strangers on any GPU."""
        for gpu in self.gpus:
            gpu.strangers.also = frozenset(pids)

    def open(self) -> Sequence[Reading]:
        """Start NVML: how many GPUs there are, or why none, and a reading for each metric that one does not report."""
        gpus, at = self.gpus, self._now_ns()
        count = None if self.reason else float(len(gpus))
        return (Reading("host", "gpus", "count", count, at, 0.0, self.reason or OK), *self._absent)

    def fast(self) -> Sequence[Reading]:
        return [reading for gpu in self.gpus for reading in gpu.fast()]

    def slow(self, turn: int) -> Sequence[Reading]:
        """One GPU's energy, another's slow readings, and of every GPU in turn its occupancy or its utilisation by GPM.

        NVML's utilisation is of the last 1/6 s at the least: it has nothing new at every tick. GPM's is of all the time
        since it was last asked, so that seldom loses nothing.
        """
        gpus = self.gpus
        readings: list[Reading] = []
        for gpu in gpus:
            if (turn + gpu.index) % 2:
                readings += gpu.occupancy()
            elif (turn + gpu.index) % GPM_TICKS == 0:
                readings += gpu.gpm()
        cycle = max(TICKS_A_SECOND, len(gpus))
        energy_of, rest_of = turn % cycle, (turn + cycle // 2) % cycle
        if energy_of < len(gpus):
            readings += gpus[energy_of].energy()
        if rest_of < len(gpus):
            readings += gpus[rest_of].slow()
        return readings

    def energy_now(self, uuids: Collection[str] | None = None, timeout_s: float = 2.0) -> tuple[Reading, ...]:
        """The energy counters of the GPUs in `uuids` (None: all) now, in joules, for a block's edges: about 4 ms a GPU.

        Safe beside a running sampler, which finds the driver free for 10 ms after each GPU. A driver that does not
        answer in `timeout_s` seconds gives readings that say so.
        """
        wanted = [gpu for gpu in self.gpus if uuids is None or gpu.uuid in uuids]
        read: list[Reading] = []

        def ask() -> None:
            for place, gpu in enumerate(wanted):
                if place:  # or the sampler's calls would queue behind this one's, at 4 ms each
                    time.sleep(BREATH_S)
                read.extend(gpu.energy())

        asking = threading.Thread(target=ask, name="energy", daemon=True)
        asking.start()
        asking.join(timeout_s)
        answered = tuple(read)
        had = {reading.source for reading in answered}
        late = f"the NVIDIA driver did not answer within {timeout_s:g} s: check `sudo dmesg | grep Xid`"
        at = self._now_ns()
        silent = tuple(
            Reading(
                gpu.source,
                ENERGY.name,
                ENERGY.unit,
                None,
                at,
                0.0,
                gpu.lost or gpu.missing.get(ENERGY.name) or late,
            )
            for gpu in wanted
            if gpu.source not in had
        )
        return answered + silent

    def _start(self) -> tuple[Gpu, ...]:
        if self._library is None:
            import pynvml

            self._library = pynvml
        library = self._library
        library.nvmlInit()
        self.driver = self._said(lambda: printable(str(library.nvmlSystemGetDriverVersion())))
        self.cuda_driver = self._said(lambda: _cuda_version(int(library.nvmlSystemGetCudaDriverVersion_v2())))
        count = int(library.nvmlDeviceGetCount())
        if count == 0:
            self.reason = NO_GPU
        gpus: list[Gpu] = []
        absent: list[Reading] = []
        for index in range(count):
            try:
                handle = library.nvmlDeviceGetHandleByIndex(index)
            except Exception as error:  # one broken GPU does not take the others along
                reason = explain(error)
                absent.append(Reading(f"gpu{index}", "available", "bool", None, self._now_ns(), 0.0, reason))
                continue
            gpu = Gpu(library, handle, index, self._now_ns)
            absent += gpu.probe()
            gpus.append(gpu)
        if count and not gpus:
            self.reason = absent[0].status
        self._absent = tuple(absent)
        return tuple(gpus)

    @staticmethod
    def _said(ask: Callable[[], str]) -> str | None:
        try:
            return ask()
        except Exception:  # a name for the capture, not worth failing for; the capture says that it is missing
            return None


def _cuda_version(number: int) -> str:
    """NVML codes CUDA 13.0 as 13000: 1000 × major + 10 × minor."""
    return f"{number // 1000}.{number % 1000 // 10}"
