"""What the wire carries: a fake engine of 50,000 tokens/s in 256 requests, through runner, conductor and follower.

    python benchmarks/wire_rate.py [--rates 1000,10000,50000] [--in-flight 256] [--seconds 8] [--rounds 5]

For each rate: the tokens that were made and those that came into the frames, the CPU that the conductor and a follower
(`kasoku attach`) took in shares of a core, the conductor's peak memory, and the rate that came about. The engine makes
all requests' next tokens in one step, as a scheduler does, and sleeps until the next is due.

At the highest rate the workbench then follows such a session in a pseudo-terminal of 160×48: how late its event loop
is, its CPU, and what it writes.

Then the runner's own cost: the CPU time of a token through its load and wire, flushed every 50 ms at that rate, and
through the load with which `kasoku calibrate` compares it, which stamps and keeps every delta, in turn. Printed is the
difference as a share of one core at the highest rate, with the 95 % interval of the mean over rounds: no engine that
shares a core with its client loses more CPU time to it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import watching  # noqa: E402 - the checkout is put on the path first
from sessions.disk.frame_schema import read_frame  # noqa: E402 - the checkout is put on the path first
from sessions.disk.session_folder import SessionFolder  # noqa: E402 - the checkout is put on the path first
from sessions.run.launch import launch  # noqa: E402 - the checkout is put on the path first
from tests.sessions.conftest import opened  # noqa: E402 - the checkout is put on the path first
from tests.sessions.workplace import KASOKU, Workplace  # noqa: E402 - the checkout is put on the path first
from tests.tui.terminal import Terminal  # noqa: E402 - the checkout is put on the path first

TOKENS = 128
PAINTED_S = 3.0
T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}

ENGINE = '''
"""Makes the next token of every request in one step, at so many tokens/s of all together."""
import time
from kasoku_engine import Engine

class Steps(Engine):
    def load(self, job):
        self.rate = job["options"]["rate"]
        found = {"weights_bytes": 0, "dtype": job["dtype"], "device": "cpu", "threads": 1}
        return {**found, "versions": {}, "resolved": {}}

    def generate(self, request, emit):
        for _ in range(request.max_new_tokens):
            emit([1])
        return "length"

    def cannot_serve(self, point):
        return ""

    def serve(self, load):
        going, due = {}, time.perf_counter()
        while not load.over:
            for request in load.take():
                going[request] = 0
            due += len(going) / self.rate
            time.sleep(max(0.0, due - time.perf_counter()))
            for request, count in list(going.items()):
                load.emit(request, [count % 50])
                going[request] = count + 1
                if count + 1 == request.max_new_tokens:
                    del going[request]
                    load.end(request)

ENGINE = Steps
'''


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def begun(work: Workplace, place: Path, rate: float, in_flight: int, seconds: float) -> SessionFolder:
    """A session of some seconds at that rate, on its way."""
    engine = place / "steps.py"
    engine.write_text(ENGINE)
    (work.config / "methods").mkdir(parents=True, exist_ok=True)
    (work.config / "methods" / "steps.toml").write_text(
        f'[methods.steps]\nsummary = "steps"\nengine = {json.dumps(str(engine))}\n'
        f'environments = {{ cpu = "plain" }}\noptions = {{ rate = {rate} }}\n'
    )
    each = max(1, math.ceil(rate * seconds / TOKENS / in_flight))
    plan = work.plan("steps", concurrency=str(in_flight), requests=each, max_new_tokens=TOKENS)
    return launch(work.home, plan)


def carried(work: Workplace, place: Path, rate: float, in_flight: int, seconds: float) -> dict[str, Any]:
    """One session at that rate, watched from outside."""
    folder = begun(work, place, rate, in_flight, seconds)
    environ = {**os.environ, "KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
    attach = subprocess.Popen(
        [str(KASOKU), "attach", folder.id],
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    conductor = next(
        process
        for process in psutil.process_iter(["cmdline"])
        if str(folder.path) in (process.info["cmdline"] or [])
        and any("conductor" in w for w in process.info["cmdline"])
    )
    watched = {"conductor": conductor, "follower": psutil.Process(attach.pid)}
    seen: list[tuple[float, dict[str, float], dict[str, int]]] = []
    while folder.is_live():
        try:
            cpu = {name: cpu_s(process) for name, process in watched.items()}
            rss = {name: process.memory_info().rss for name, process in watched.items()}
        except psutil.NoSuchProcess:
            break
        seen.append((time.perf_counter(), cpu, rss))
        time.sleep(0.1)
    attach.wait(60)
    work.finished(folder)
    requests, tokens = read_frame(folder.frame("requests"), "requests"), read_frame(folder.frame("tokens"), "tokens")
    begin, end = min(requests["start_ns"].to_list()), max(requests["end_ns"].to_list())
    made = requests.height * TOKENS
    inside = [row for row in seen if begin / 1e9 <= row[0] <= end / 1e9]
    shares = {
        name: 100 * (inside[-1][1][name] - inside[0][1][name]) / (inside[-1][0] - inside[0][0]) for name in watched
    }
    return {
        "asked tok/s": rate,
        "came tok/s": round(tokens.height / ((end - begin) / 1e9)),
        "made": made,
        "lost": made - tokens.height,
        "conductor % of a core": round(shares["conductor"], 1),
        "follower % of a core": round(shares["follower"], 1),
        "conductor peak MB": round(max(row[2]["conductor"] for row in inside) / 1e6),
        "journal bytes/token": round(folder.journal.stat().st_size / made, 1),
    }


def looked_at(work: Workplace, place: Path, rate: float, in_flight: int, seconds: float) -> dict[str, Any]:
    """The workbench on such a session, once it shows it."""
    folder = begun(work, place, rate, in_flight, seconds + PAINTED_S + 15)
    lags, terminal = place / "lags.json", Terminal(160, 48, live=False)
    environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "KASOKU_HOME": str(work.home)}
    terminal.start([sys.executable, watching.__file__, "--watch", str(work.home), str(lags)], environ)
    try:
        if not terminal.wait_until_sent(b"in flight", 30):
            raise SystemExit("The workbench did not show the session:\n" + "\n".join(terminal.frames()[-1].lines))
        time.sleep(PAINTED_S)
        app = psutil.Process(terminal.pid)
        start, before = time.perf_counter(), cpu_s(app)
        time.sleep(seconds)
        if not folder.is_live():
            raise SystemExit("The session was over before the workbench had been measured.")
        end, after = time.perf_counter(), cpu_s(app)
        os.kill(terminal.pid, signal.SIGUSR1)
        while not lags.exists() or not lags.read_text().endswith("]"):
            time.sleep(0.1)
        late = sorted(lag for at, lag in json.loads(lags.read_text()) if start <= at < end)
    finally:
        terminal.hang_up()
    work.finished(folder)
    return {
        "asked tok/s": rate,
        "in flight": in_flight,
        "lag p99 ms": round(1e3 * late[int(0.99 * len(late))], 1),
        "lag max ms": round(1e3 * late[-1], 1),
        "app % of a core": round(100 * (after - before) / (end - start), 1),
        "KB/s": round(terminal.written(start, end) / (end - start) / 1e3, 1),
    }


# The runner's own cost

COST = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
kind, in_flight, steps, a_flush = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
from kasoku_bare_load import BareLoad
from kasoku_load import Load, Point
from kasoku_wire import Wire

class R:
    __slots__ = ("number", "warmup", "prompt_index", "prompt_ids", "depth", "max_new_tokens", "seed",
                 "cached_prompt_tokens", "speculated")
    def __init__(self, number):
        self.number, self.warmup, self.prompt_index, self.prompt_ids, self.depth = number, False, 0, [1], 0
        self.max_new_tokens, self.seed, self.cached_prompt_tokens, self.speculated = steps, 0, None, {}

requests = [R(n) for n in range(in_flight)]
reading, writing = os.pipe()
if os.fork() == 0:
    os.close(writing)
    while os.read(reading, 1 << 20):
        pass
    os._exit(0)
os.close(reading)

is_bare = kind == "bare"
point = Point({"place": 0, "name": "c", "concurrency": in_flight}, requests)
began = time.process_time()
load = (BareLoad if is_bare else Load)(point, requests, Wire(writing))
going = load.take()
load._next_flush = 1 << 62
for step in range(steps):
    for request in going:
        load.emit(request, [step])
    if step % a_flush == a_flush - 1 and not is_bare:
        load.flush()
        load._next_flush = 1 << 62
for request in going:
    load.end(request)
print((time.process_time() - began) / (steps * in_flight))
"""


def cost(in_flight: int, rate: float, rounds: int) -> dict[str, Any]:
    """What a token costs in the runner and in a bare load, before that tells what it has kept."""
    steps, a_flush = 400_000 // in_flight, max(1, round(0.05 * rate / in_flight))
    took: dict[str, list[float]] = {"bare": [], "runner": []}
    for number in range(rounds + 1):
        for kind in ("bare", "runner") if number % 2 else ("runner", "bare"):
            command = [sys.executable, "-c", COST, str(ROOT / "methods" / "runner"), kind, str(in_flight), str(steps)]
            done = subprocess.run([*command, str(a_flush)], capture_output=True, text=True, check=True)
            took[kind].append(float(done.stdout))
    more = [100 * rate * (own - bare) for own, bare in list(zip(took["runner"], took["bare"], strict=True))[1:]]
    half = T_95.get(len(more), 2.0) * statistics.stdev(more) / math.sqrt(len(more))
    return {
        "in flight": in_flight,
        "runner µs/token": round(1e6 * statistics.fmean(took["runner"][1:]), 2),
        "bare µs/token": round(1e6 * statistics.fmean(took["bare"][1:]), 2),
        f"more, % of a core at {rate:,.0f} tok/s": round(statistics.fmean(more), 2),
        "± %": round(half, 2),
    }


def table(rows: list[dict[str, Any]]) -> None:
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print(
            "| " + " | ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()) + " |"
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rates", default="1000,5000,20000,50000")
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: an interval takes at least 2")
    rates = [float(rate) for rate in options.rates.split(",")]
    rows = []
    for rate in rates:
        with tempfile.TemporaryDirectory() as place, contextlib.contextmanager(opened)(Path(place)) as work:
            rows.append(carried(work, Path(place), rate, options.in_flight, options.seconds))
    table(rows)
    print()
    with tempfile.TemporaryDirectory() as place, contextlib.contextmanager(opened)(Path(place)) as work:
        table([looked_at(work, Path(place), rates[-1], options.in_flight, options.seconds)])
    print()
    table([cost(in_flight, rates[-1], options.rounds) for in_flight in (16, 64, options.in_flight)])


if __name__ == "__main__":
    main()
