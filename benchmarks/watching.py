"""What it costs to watch: the workbench follows a session of 500 tokens/s in a pseudo-terminal of 160×48.

    python benchmarks/watching.py [--seconds 20] [--size 160x48] [--keep FOLDER] [--method METHOD [--model MODEL]]

A feeder writes a real journal at its real pace: four methods at 500 tokens/s, 10 Hz telemetry of two GPUs and the host.
The workbench follows it twice: on a fast terminal, and on one that takes 50 KB/s. Printed are the time to the first
paint, the event loop's lag, the CPU, the bytes written, and on the slow link how far the view is behind and how long a
key takes. What the screen showed, and when, is worked out afterwards from the recorded bytes with a terminal emulator,
so that the emulator takes no CPU from what is measured.

With --method a real measurement follows: tokens/s of that method with the workbench on either link against none, from
`kasoku calibrate` in the home that KASOKU_HOME names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sessions.run.own_process import own_process  # noqa: E402 - the checkout is put on the path first
from tests.tui.terminal import Frame, Terminal  # noqa: E402 - the checkout is put on the path first

SLOW_BYTES_S = 50_000
SPEED = 500.0
BUDGET = {"first_paint_s": 1.0, "lag_ms": 20.0, "cpu": 15.0, "kb_s": 150.0, "key_s": 1.0, "behind_s": 2.0}


# The feeder: a process that writes a session at its real pace


def feed(home: Path, seconds: float) -> None:
    """Write a session's journal as its records fall due, holding its lock, until it was long enough."""
    from sessions.disk.journal import JournalWriter
    from sessions.disk.session_folder import create
    from tests.tui.journals import METHODS, Script, make_plan, make_tokeniser

    tokeniser = home / "models" / "small"
    ids = make_tokeniser(tokeniser)
    plan = make_plan(requests=300, blocks=30, tokens=400)
    folder, _lock = create(home / "sessions", plan)
    journal = JournalWriter(folder.path)
    start = time.perf_counter_ns()
    script = Script(plan, folder.id, str(tokeniser), ids, start, dict.fromkeys(METHODS, SPEED))
    latest = 0
    for record in script.records():
        ahead = record.t - time.perf_counter_ns()
        if ahead > 0:
            time.sleep(ahead / 1e9)
        latest = max(latest, -ahead)
        journal.append(record)
        if record.t - start > seconds * 1e9:
            break
    print(json.dumps({"latest_ms": latest / 1e6}))


# The workbench, with a probe of its event loop


def watch(home: Path, out: Path) -> None:
    """Run the workbench; every 20 ms a timer says how late it was called."""
    import asyncio

    from tui.app import Workbench

    lags: list[tuple[float, float]] = []

    async def probe() -> None:
        while True:
            due = time.perf_counter() + 0.02
            await asyncio.sleep(0.02)
            lags.append((time.perf_counter(), time.perf_counter() - due))

    class Probed(Workbench):
        def on_mount(self) -> None:
            self.probe = asyncio.create_task(probe())

    def save(*_: Any) -> None:
        out.write_text(json.dumps(lags))

    signal.signal(signal.SIGUSR1, save)
    app = Probed(home, home / "config")
    app.run()
    print(app.farewell)


# How far the view is behind the journal

TITLE = re.compile(r"(\S+) · (?:request (\d+)|(warm-up)) · (\d+) tokens")


def token_times(journal: Path) -> tuple[dict[tuple[str, int, int], float], list[float]]:
    """When each state "method, request, tokens until now" was in the journal, and those moments in order."""
    from sessions.disk.journal import read_journal
    from sessions.disk.records import RequestStarted, Tokens

    times: dict[tuple[str, int, int], float] = {}
    count = 0
    for record in read_journal(journal):
        if isinstance(record, RequestStarted):
            count = 0
        elif isinstance(record, Tokens):
            count += len(record.ids)
            times[(record.method, record.request, count)] = record.t / 1e9
    return times, sorted(times.values())


def behind(shown: list[Frame], journal: Path, start: float, end: float) -> list[float]:
    """For each frame, just before it changed: for how long something newer had been in the journal (seconds)."""
    times, moments = token_times(journal)
    values = []
    for frame, later in pairwise(shown):
        if not start <= later.at < end:
            continue
        found = next((match for line in frame.lines if (match := TITLE.search(line))), None)
        if found is None:
            continue
        # Warm-ups are one a block, so a method's latest before the frame is the one.
        request = -1 if found[3] else int(found[2]) - 1
        state = times.get((found[1], request, int(found[4])))
        if state is None:
            continue
        place = bisect_right(moments, state)
        newer = moments[place] if place < len(moments) else later.at
        values.append(max(0.0, later.at - newer))
    return values


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


# The two passes


def one_pass(size: tuple[int, int], seconds: float, bytes_s: float | None, keep: Path | None) -> dict[str, float]:
    """Feed a session, follow it in a terminal, and give the figures."""
    with tempfile.TemporaryDirectory() as folder:
        home, out = Path(folder), Path(folder) / "lags.json"
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "KASOKU_HOME": folder}
        feeder = subprocess.Popen(
            [sys.executable, __file__, "--feed", folder, "--seconds", str(seconds + 25)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not list(home.glob("sessions/*/journal.ndjson")):
                time.sleep(0.05)
            time.sleep(4.0)  # into the first request
            terminal = Terminal(*size, bytes_s=bytes_s, live=False)
            terminal.start([sys.executable, __file__, "--watch", folder, str(out)], environment)
            if not terminal.wait_until_sent(b"tokens", 20):
                print("\n".join(terminal.frames()[-1].lines))
                raise SystemExit("the workbench did not show the session")
            time.sleep(3.0)
            process = psutil.Process(terminal.pid)
            start, before = time.perf_counter(), process.cpu_times()
            time.sleep(seconds)
            end, after = time.perf_counter(), process.cpu_times()
            keys = []
            for _ in range(4):
                keys.append(terminal.press(b"?"))
                time.sleep(1.7)
                terminal.press(b"\x1b")
                time.sleep(1.0)
            os.kill(terminal.pid, signal.SIGUSR1)
            time.sleep(0.5)
            lags = [lag for at, lag in json.loads(out.read_text()) if start <= at < end]
            terminal.hang_up()
        finally:
            feeder.terminate()
            feeder.wait()
        shown = terminal.frames()
        journal = next(home.glob("sessions/*/journal.ndjson"))
        late = behind(shown, journal, start, end)
        if keep is not None:
            name = "fast" if bytes_s is None else "slow"
            (keep / f"{name}.txt").write_text("\n".join(next(f for f in reversed(shown) if f.at < end).lines))
        painted = next(frame.at for frame in shown if any("sessions" in line for line in frame.lines))
        return {
            "first_paint_s": painted - terminal.began,
            "lag_p50_ms": 1e3 * quantile(lags, 0.5),
            "lag_p99_ms": 1e3 * quantile(lags, 0.99),
            "lag_max_ms": 1e3 * max(lags),
            "cpu_percent": 100 * (after.user + after.system - before.user - before.system) / (end - start),
            "kb_s": terminal.written(start, end) / (end - start) / 1e3,
            "frames_s": len([f for f in frames_changed(shown) if start <= f < end]) / (end - start),
            "behind_p50_s": quantile(late, 0.5),
            "behind_max_s": max(late, default=float("nan")),
            "key_max_s": max(key_took(shown, at) for at in keys),
        }


def frames_changed(shown: list[Frame]) -> list[float]:
    """The moments at which the line with the count of tokens changed."""
    moments, before = [], ""
    for frame in shown:
        line = next((found[0] for line in frame.lines if (found := TITLE.search(line))), "")
        if line and line != before:
            moments.append(frame.at)
            before = line
    return moments


def key_took(shown: list[Frame], pressed: float) -> float:
    """Seconds from the press of ? until the help was wholly on the screen."""
    for frame in shown:
        if frame.at > pressed and any("Help: escape" in line for line in frame.lines):
            return frame.at - pressed
    return float("inf")


def watched_speed(method: str, model: str) -> list[str]:
    """What the workbench on either link costs a real method's tokens/s, as `kasoku calibrate` says it."""
    command = own_process("tui.command_line", "calibrate", method, "--model", model)
    command += ["--only", "app", "--only", "slow-link"]
    done = subprocess.run(
        [*command, "--threads", "1", "--max-new-tokens", "200"], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode == 0 else [done.stderr.strip()]


def machine() -> str:
    """The machine and the versions, in a line."""
    from importlib.metadata import version

    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return (
        f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()},"
        f" Python {platform.python_version()}, Textual {version('textual')}, load {os.getloadavg()[0]:.2f}"
    )


def main() -> int:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--size", default="160x48")
    parser.add_argument("--keep", type=Path, help="folder for the last frame of each pass, as text")
    parser.add_argument("--method", help="a method whose tokens/s is measured with and without the workbench")
    parser.add_argument("--model", default="synthetic:tiny-llama", help="for --method (synthetic:tiny-llama: fast)")
    parser.add_argument("--feed", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--watch", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.feed:
        feed(options.feed, options.seconds)
        return 0
    if options.watch:
        watch(*options.watch)
        return 0
    columns, rows = (int(part) for part in options.size.split("x"))
    print(f"{time.strftime('%Y-%m-%d')} · {machine()}")
    print(
        f"terminal {columns}×{rows}, four methods at {SPEED:.0f} tokens/s, telemetry at 10 Hz, {options.seconds:.0f} s"
    )
    fast = one_pass((columns, rows), options.seconds, None, options.keep)
    slow = one_pass((columns, rows), options.seconds, SLOW_BYTES_S, options.keep)
    print(f"{'':22}{'fast':>10}{'50 KB/s':>10}")
    for name in fast:
        print(f"{name:22}{fast[name]:>10.3g}{slow[name]:>10.3g}")
    met = (
        fast["first_paint_s"] < BUDGET["first_paint_s"]
        and fast["lag_p99_ms"] <= BUDGET["lag_ms"]
        and fast["cpu_percent"] <= BUDGET["cpu"]
        and fast["kb_s"] <= BUDGET["kb_s"]
        and slow["key_max_s"] <= BUDGET["key_s"]
        and slow["behind_max_s"] <= BUDGET["behind_s"]
    )
    if options.method:
        print("\n".join(watched_speed(options.method, options.model)))
    print("all within the budgets" if met else f"NOT within the budgets: {BUDGET}")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
