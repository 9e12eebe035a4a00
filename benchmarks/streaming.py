"""What handing a token out costs the runner: the time `TokenStream` takes of each, with a reader that drains the pipe.

    python benchmarks/streaming.py [--tokens 20000] [--rate 500] [--marked]

The stream runs at the pace of `--rate` tokens/s, since a line is written every 50 ms whatever the pace. With --marked
tokens are only marked and their ids fetched for each line, as for transformers (here for nothing; on a GPU it is a
copy). Printed are the median, mean and 99th percentile of a call in microseconds, and the mean as a share of the time
of a token. The share bounds what streaming can cost where the clock's own noise hides it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "methods" / "runner"))

from kasoku_wire import TokenStream, Wire  # type: ignore[import-not-found]

IDS = (504, 31_999)


def drained(descriptor: int) -> None:
    while os.read(descriptor, 65_536):
        pass


def calls(tokens: int, rate: float, marked: bool) -> list[float]:
    """Seconds of each call, a token a call."""

    def fetch(count: int) -> list[int]:
        return [IDS[0]] * count

    reading, writing = os.pipe()
    reader = threading.Thread(target=drained, args=(reading,), daemon=True)
    reader.start()
    stream = TokenStream(Wire(writing), 0)
    taken = []
    due = time.perf_counter()
    stream.begin()
    for number in range(tokens):
        due += 1 / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        before = time.perf_counter_ns()
        if marked:
            stream.mark(fetch)
        else:
            stream([IDS[number % 2]])
        taken.append((time.perf_counter_ns() - before) / 1e9)
    stream.flush()
    os.close(writing)
    reader.join()
    os.close(reading)
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--marked", action="store_true")
    options = parser.parse_args()
    taken = sorted(calls(options.tokens, options.rate, options.marked))
    values = (statistics.median(taken), statistics.fmean(taken), taken[-len(taken) // 100])
    p50, mean, p99 = (1e6 * value for value in values)
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print(
        f"{options.tokens} tokens at {options.rate:g} tokens/s: p50 {p50:.2f} µs, mean {mean:.2f} µs, p99 {p99:.1f} µs"
    )
    print(f"the mean is {mean * options.rate / 1e4:.3f} % of the time of a token")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
