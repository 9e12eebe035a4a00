"""One thread that polls all sources at 10 Hz and hands one tuple of readings per tick to a sink."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from probes.base.reading import Reading, printable
from probes.base.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

INTERVAL_NS: Final = 100_000_000


class Clock(Protocol):
    """Time in nanoseconds and waiting for it; tests bring their own."""

    def now_ns(self) -> int: ...

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> None:
        """Return at `deadline_ns`; it may be earlier once `stop` is set."""


class MonotonicClock:
    """The clock that stamps tokens, `time.perf_counter_ns`."""

    def now_ns(self) -> int:
        return time.perf_counter_ns()

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> None:
        # waiting for the event itself takes about 40 µs of CPU more, at every tick
        if not stop.is_set():
            time.sleep(max(0, deadline_ns - time.perf_counter_ns()) / 1e9)


@dataclass(frozen=True, slots=True)
class Health:
    """How the sampler is doing.

    ticks, missed: ticks that ran, and deadlines that passed without one. worst_late_us: of the ticks that ran.
    asking, asking_s: the source that is being read now and since when; long times are a source that hangs.
    trouble: the last error in a source or the sink, None if there was none.
    """

    ticks: int
    missed: int
    worst_late_us: float
    asking: str | None
    asking_s: float
    trouble: str | None


class Sampler:
    """Polls `sources` every `interval_ns` and gives `sink` one tuple a tick, from its own thread.

    Deadlines are absolute: a tick that comes late runs at the next deadline, is not made up for, and counts as missed.
    At a tick the fast readings of all sources come first, so that none of them waits for a slow one. A source or sink
    that raises is noted in `health` and asked again at the next tick; one that hangs holds up the ticks until it
    returns, and `health` names it. The sink should be fast: the time it takes is lost to the next tick.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        sink: Callable[[tuple[Reading, ...]], None],
        clock: Clock | None = None,
        interval_ns: int = INTERVAL_NS,
    ) -> None:
        self._sources = tuple(sources)
        self._fast = tuple(source for source in sources if type(source).fast is not Source.fast)
        self._slow = tuple(source for source in sources if type(source).slow is not Source.slow)
        self._sink = sink
        self._clock = clock or MonotonicClock()
        self._interval_ns = interval_ns
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ticks = 0
        self._missed = 0
        self._worst_late_ns = 0
        self._asking: tuple[str, int] | None = None
        self._trouble: str | None = None

    def start(self) -> None:
        """Start polling; a sampler starts once."""
        if self._thread is not None:
            raise RuntimeError("this sampler has already been started: make a new one")
        self._thread = threading.Thread(target=self.run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Stop polling; False if a source hangs and the thread did not end in `timeout_s` seconds (it is a daemon)."""
        self._stop.set()
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def watch(self, pids: Collection[int]) -> None:
        """From the next tick on `pids` and their descendants are what is measured; with none, there is nothing."""
        for source in self._sources:
            source.watch(pids)

    @property
    def health(self) -> Health:
        """How it is doing now; may be asked from any thread."""
        asking = self._asking
        name, since = asking if asking else (None, 0)
        asking_s = (self._clock.now_ns() - since) / 1e9 if asking else 0.0
        return Health(self._ticks, self._missed, self._worst_late_ns / 1000, name, asking_s, self._trouble)

    def run(self) -> None:
        """Poll until `stop`; `start` calls this in the sampler's thread."""
        first = [reading for source in self._sources for reading in self._ask(source, source.open)]
        clock, interval = self._clock, self._interval_ns
        deadline = clock.now_ns()
        while True:
            clock.wait_until(deadline, self._stop)
            if self._stop.is_set():
                return
            late = clock.now_ns() - deadline
            if late < interval:
                self._worst_late_ns = max(self._worst_late_ns, late)
                self._tick(first)
                first = []
                self._ticks += 1
                deadline += interval
                late = clock.now_ns() - deadline
            passed = late // interval + 1 if late > 0 else 0
            self._missed += passed
            deadline += passed * interval

    def _tick(self, readings: list[Reading]) -> None:
        for source in self._fast:
            readings += self._ask(source, source.fast)
        for source in self._slow:
            readings += self._ask(source, source.slow, self._ticks)
        if readings:
            self._asking = ("sink", self._clock.now_ns())
            try:
                self._sink(tuple(readings))
            except Exception as error:  # a full disk must not end the telemetry for good
                self._trouble = f"sink: {type(error).__name__}: {printable(str(error))}"
            self._asking = None

    def _ask(self, source: Source, read: Callable[..., Sequence[Reading]], *turn: int) -> Sequence[Reading]:
        self._asking = (source.name, self._clock.now_ns())
        try:
            return read(*turn)
        except Exception as error:
            self._trouble = f"{source.name}: {type(error).__name__}: {printable(str(error))}"
            return ()
        finally:
            self._asking = None
