"""What the sampler costs and how even its ticks are, at its real tiers and with its real sources.

    python benchmarks/sampling.py [--minutes 1] [--simulated-gpus N] [--costs found|tight] [--edges]
                                  [--threads 64] [--megabytes 300]

The sources are the conductor's: the GPUs, the host, and the tree of a real process of that many threads and that much
memory; its ticks go into a real journal. Where this machine has an NVIDIA GPU that is asked, unless GPUs are simulated:
then each NVML call spins for what it costs, `found` at ten calls a second on an H200, or as seen in a `tight` loop, one
at a time as in the driver. With --edges another thread reads the energy of all GPUs once a second, as at a block's
edges.

The sampler runs for so many minutes: the share of one core that its thread used by the kernel's count; how late its
ticks came, and the last of their 10 Hz readings (p50, p99, the latest), how late the first and the last of them came
(drift), and the ticks missed. Then, for a quarter of that time, it runs again with each source timed, which is some of
its cost: what each took, and the sum. And for another quarter a thread only wakes up: that part is the machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine_line import machine_line  # noqa: E402 - the checkout is put on the path first
from probes.base.reading import Reading  # noqa: E402
from probes.base.source import Source  # noqa: E402
from probes.gpu.gpu import POWER, SM_CLOCK, THROTTLE  # noqa: E402
from probes.gpu.nvml import Nvml  # noqa: E402
from probes.host.host import Host  # noqa: E402
from probes.host.process_tree import ProcessTree  # noqa: E402
from probes.sampler import INTERVAL_NS, MonotonicClock, Sampler  # noqa: E402
from sessions.disk.journal import JournalWriter  # noqa: E402
from sessions.run.telemetry_feed import telemetry_record  # noqa: E402
from tests.probes import fake_nvml  # noqa: E402

LONG_CALL_NS, WORK = 1_000_000, bytes(16_384)
FAST = {POWER.name, SM_CLOCK.name, THROTTLE.name}
SHARE_BAR, LATE_BAR_MS, DELAY_BAR_MS = 1.0, 5.0, 10.0
# Microseconds a call at ten a second on one H200, driver 580.159.04 (docs/telemetry.md); what was not read there is
# taken to cost what its likes do.
FOUND = {
    "nvmlDeviceGetUtilizationRates": 40,
    "nvmlDeviceGetMemoryInfo": 70,
    "nvmlDeviceGetFieldValues": 33,
    "nvmlDeviceGetClockInfo": 30,
    "nvmlDeviceGetCurrentClocksEventReasons": 30,
    "nvmlDeviceGetTemperatureV": 30,
    "nvmlDeviceGetEnforcedPowerLimit": 30,
    "nvmlDeviceGetTotalEnergyConsumption": 4200,
    "nvmlDeviceGetComputeRunningProcesses": 60,
    "nvmlGpmSampleGet": 100,
    "nvmlGpmMetricsGet": 57,
}
HELD = """
import sys, threading
held = bytearray(b"x") * (int(sys.argv[2]) << 20)
stay = threading.Event()
for _ in range(int(sys.argv[1]) - 1):
    threading.Thread(target=stay.wait, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""


class SpinningNvml(fake_nvml.FakeNvml):
    """A simulated driver whose calls take real time; it keeps no list of them."""

    def __init__(self, count: int, costs: dict[str, int]) -> None:
        super().__init__(count)
        self._costs = costs
        self._driver = threading.Lock()

    def _call(self, name: str, handle: Any = None, *arguments: Any, **options: Any) -> Any:
        cost_ns = self._costs.get(name, 2) * 1000
        with self._driver:
            until = time.perf_counter_ns() + cost_ns
            self.calls.clear()
            answer = super()._call(name, handle, *arguments, **options)
            while time.perf_counter_ns() < until:
                if cost_ns > LONG_CALL_NS:
                    hashlib.sha256(WORK)  # which lets other threads of Python go on meanwhile, as a foreign call does
        return answer


class TimedClock(MonotonicClock):
    """Keeps how late each tick came, and how long it lasted, in nanoseconds."""

    def __init__(self) -> None:
        self.late = array("q")
        self.woken = array("q")
        self.lasted = array("q")
        self.read = array("q")
        self.deadline = 0

    def wait_until(self, deadline_ns: int, stop: threading.Event) -> None:
        super().wait_until(deadline_ns, stop)
        now = self.now_ns()
        self.woken.append(now)
        self.deadline = deadline_ns
        self.late.append(now - deadline_ns)


class TimedSource(Source):
    """A source with the CPU time that it takes."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.source = source
        self.forget()

    def forget(self) -> None:
        self.cpu_ns = {"fast": 0, "slow": 0}
        self.calls = 0
        self.longest_ns = 0

    def open(self) -> Sequence[Reading]:
        return self.source.open()

    def watch(self, pids: Collection[int]) -> None:
        self.source.watch(pids)

    def fast(self) -> Sequence[Reading]:
        self.calls += 1
        return self._timed("fast", self.source.fast)

    def slow(self, turn: int) -> Sequence[Reading]:
        return self._timed("slow", lambda: self.source.slow(turn))

    def _timed(self, part: str, read: Callable[[], Sequence[Reading]]) -> Sequence[Reading]:
        before = time.thread_time_ns()
        readings = read()
        took = time.thread_time_ns() - before
        self.cpu_ns[part] += took
        self.longest_ns = max(self.longest_ns, took)
        return readings


@contextlib.contextmanager
def watched_process(threads: int, megabytes: int) -> Iterator[int]:
    """The id of a process that stands for a runner; it idles."""
    command = [sys.executable, "-I", "-c", HELD, str(threads), str(megabytes)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.communicate()


@contextlib.contextmanager
def edges(nvml: Nvml) -> Iterator[None]:
    """Meanwhile the energy of all GPUs is read once a second, between two ticks and in the middle of one in turn."""
    over = threading.Event()

    def read() -> None:
        while not over.wait(0.977):
            nvml.energy_now()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sample(sources: Sequence[Source], seconds: float, pid: int, folder: Path) -> tuple[Sampler, TimedClock, float]:
    """Run a sampler as the conductor does, its ticks journalled by another thread; with its share of a core."""
    ticks: queue.Queue[tuple[Reading, ...]] = queue.Queue()
    clock = TimedClock()

    def take(readings: tuple[Reading, ...]) -> None:
        clock.lasted.append(clock.now_ns() - clock.woken[-1])
        if fast := [each.t_ns for each in readings if each.metric in FAST]:
            clock.read.append(max(fast) - clock.deadline)
        ticks.put(readings)

    sampler = Sampler(sources, take, clock)
    sampler.watch([pid])
    thread = threading.Thread(target=sampler.run, name="sampler")
    journal = JournalWriter(folder)
    thread.start()
    while len(clock.late) < 10:  # opened, and every cache warm
        time.sleep(0.05)
    cpu_clock = time.pthread_getcpuclockid(thread.ident or 0)
    for source in sources:
        if isinstance(source, TimedSource):
            source.forget()
    first, began, before = len(clock.late), time.perf_counter(), time.clock_gettime(cpu_clock)
    while time.perf_counter() - began < seconds:
        time.sleep(0.1)
        with contextlib.suppress(queue.Empty):
            while True:
                journal.append(telemetry_record(ticks.get_nowait()))
    share = (time.clock_gettime(cpu_clock) - before) / (time.perf_counter() - began)
    sampler.stop()
    thread.join()
    journal.close()
    del clock.late[:first], clock.woken[:first], clock.lasted[:first], clock.read[:first]
    return sampler, clock, share


def waking(seconds: float) -> float:
    """Seconds of CPU that a thread takes for nothing but waking up at the sampler's deadlines: the machine's part."""
    clock, used = MonotonicClock(), [0.0]

    def wake() -> None:
        deadline, never = clock.now_ns(), threading.Event()
        for _ in range(int(seconds * 1e9 / INTERVAL_NS)):
            deadline += INTERVAL_NS
            clock.wait_until(deadline, never)
        used[0] = time.thread_time()

    thread = threading.Thread(target=wake)
    thread.start()
    thread.join()
    return used[0]


def quantile(values: Sequence[int], share: float) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])


def main() -> int:
    """Parse the command line, measure, print; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--simulated-gpus", type=int, default=0, metavar="N")
    parser.add_argument("--costs", choices=["found", "tight"], default="found")
    parser.add_argument("--edges", action="store_true")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--megabytes", type=int, default=300)
    options = parser.parse_args()
    costs = FOUND if options.costs == "found" else fake_nvml.COSTS
    simulated = options.simulated_gpus

    print(machine_line("psutil", "nvidia-ml-py"))
    found = Nvml(SpinningNvml(simulated, costs)) if simulated else Nvml()
    what = f"{simulated} simulated GPUs ({options.costs} costs)" if simulated else f"{len(found.gpus)} GPUs"
    print(f"{what}, host, a process of {options.threads} threads and {options.megabytes} MB")
    plain = (found, Host(), ProcessTree())
    timed = [TimedSource(source) for source in (found, Host(), ProcessTree())]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pid = stack.enter_context(watched_process(options.threads, options.megabytes))
        if options.edges:
            stack.enter_context(edges(found))
        sampler, clock, share = sample(plain, options.minutes * 60, pid, folder)
        *_, timed_share = sample(timed, options.minutes * 15, pid, folder)
    woken = waking(options.minutes * 15) / (options.minutes * 15)
    late = clock.late
    edge = min(100, len(late) // 2)
    drift = (statistics.median(late[-edge:]) - statistics.median(late[:edge])) / 1e6
    between = [later - earlier - INTERVAL_NS for earlier, later in zip(clock.woken, clock.woken[1:], strict=False)]
    print(f"CPU            {100 * share:.2f} % of one core over {len(late)} ticks, {share / 10 * 1e6:.0f} µs a tick")
    for what, values in (("late by", late), ("10 Hz read by", clock.read)):
        if not values:  # without a GPU nothing is read at 10 Hz
            continue
        p50, p99 = quantile(values, 0.5) / 1e6, quantile(values, 0.99) / 1e6
        print(f"{what:14} p50 {p50:.3f} ms, p99 {p99:.3f} ms, at most {max(values) / 1e6:.3f} ms")
    print(f"a tick lasts   p50 {quantile(clock.lasted, 0.5) / 1e6:.3f} ms, at most {max(clock.lasted) / 1e6:.3f} ms")
    print(f"interval off   p99 {quantile([abs(each) for each in between], 0.99) / 1e6:.3f} ms")
    print(f"drift          {drift:+.3f} ms between the first and the last {edge} ticks")
    print(f"missed ticks   {sampler.health.missed}" + (f", {sampler.health.trouble}" if sampler.health.trouble else ""))
    print(f"each timed     {100 * timed_share:.2f} % of one core with what times the sources:")
    for source in timed:
        fast, slow = (source.cpu_ns[part] / source.calls / 1e3 for part in ("fast", "slow"))
        print(
            f"{source.name:14} {(fast + slow) / 1e3:.2f} % of one core: {fast:.0f} µs a tick at 10 Hz and {slow:.0f} µs"
            f" for what is slower, at most {source.longest_ns / 1e6:.1f} ms at once"
        )
    print(f"waking up      {100 * woken:.2f} % of one core: {woken / 10 * 1e6:.0f} µs a tick that does nothing")
    bars = {
        **({} if len(found.gpus) > 1 else {f"under {SHARE_BAR:g} % of one core": 100 * share < SHARE_BAR}),
        f"p99 within {LATE_BAR_MS:g} ms": quantile(late, 0.99) <= LATE_BAR_MS * 1e6,
        f"no tick and no 10 Hz reading later than {DELAY_BAR_MS:g} ms": max(*late, *clock.read) <= DELAY_BAR_MS * 1e6,
        "none missed": sampler.health.missed == 0,
    }
    missed = [name for name, met in bars.items() if not met]
    print(f"NOT met: {', '.join(missed)}" if missed else f"met: {', '.join(bars)}")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
