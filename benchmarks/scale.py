"""How the workbench grows: with the number of saved sessions, and with the length of a session's journal.

    python benchmarks/scale.py [sessions|journals|loads|all] [--sessions 10,100,1000,10000] [--tokens 10000,…,10000000]
                               [--load-tokens 1000000,10000000,100000000] [--folder FOLDER] [--keep]

Sessions are real ones, written once by the product's own writers and then put into the store N times under other ids,
names, models and dates. Journals are what a conductor would have written: four methods at 500 tokens/s in five blocks,
responses of 250 tokens, telemetry of two GPUs and the host at 10 Hz. Those of loads have 256 requests in flight, and
50,000 tokens/s of all together. Each step is a process of its own; its time is
without its imports, except where it says "process"; peak memory is all of it. The growth between two steps is the
exponent k of N^k. 1 is returned where a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # and nothing of ours at the top: a step's peak memory would begin with it

LISTED_BAR_S = 0.5
GROWTH_BAR = 1.1
FOLLOWER_BAR_MB = 32.0  # by which following the longest journal may take more memory than following the next shorter
FINALISED_BAR_MB = 4000.0
QUICK_S = 2.0
SHORT_S, SMALL_MB = 0.1, 50.0  # below these a step's growth is the noise's


# What is measured


def step_list(home: Path) -> dict[str, float]:
    """The rows of all sessions, as the Sessions screen and the command line read them."""
    from sessions.disk.store import Store

    store = Store(home / "sessions")
    began = time.perf_counter()
    rows = store.listed()
    seconds = time.perf_counter() - began
    assert rows
    assert all(not row.problem for row in rows)
    return {"seconds": seconds, "rows": len(rows)}


def step_list_first(home: Path) -> dict[str, float]:
    """The same where no row is kept from an earlier time."""
    shutil.rmtree(home / "cache", ignore_errors=True)
    return step_list(home)


def step_compare_two(home: Path) -> dict[str, float]:
    """Two sessions, the oldest and the newest, out of all."""
    return _compared(home, lambda ids: [ids[0], ids[-1]])


def step_compare_all(home: Path) -> dict[str, float]:
    """All sessions in one table."""
    return _compared(home, list)


def _compared(home: Path, pick: Callable[[list[str]], list[str]]) -> dict[str, float]:
    from sessions.disk.store import Store
    from sessions.verdict.comparison import compare

    store = Store(home / "sessions")
    picks = [(session, None) for session in pick(store.ids())]
    began = time.perf_counter()
    comparison = compare(store, picks, anyway=True)
    seconds = time.perf_counter() - began
    assert not comparison.problems
    assert all(row.tok_s_mean for row in comparison.rows)
    return {"seconds": seconds, "rows": len(comparison.rows)}


def step_screen(home: Path) -> dict[str, float]:
    """The Sessions screen, from its key to its rows."""
    return _screen(home)[0]


def step_filter(home: Path) -> dict[str, float]:
    """A word typed into the filter of that screen, until the rows that match are shown."""
    return _screen(home)[1]


def _screen(home: Path) -> tuple[dict[str, float], dict[str, float]]:
    import asyncio

    from textual.widgets import Input

    from tui.app import Workbench
    from tui.screens.sessions import SessionsScreen

    async def drive() -> tuple[float, float]:
        app = Workbench(home, home / "config")
        async with app.run_test(size=(160, 48)) as pilot:
            await pilot.pause()
            began = time.perf_counter()
            await pilot.press("2")
            screen = app.screen
            assert isinstance(screen, SessionsScreen)
            while not screen.rows.rows:
                await asyncio.sleep(0.002)
            await pilot.pause()
            shown = time.perf_counter() - began
            box = screen.query_one("#filter", Input)
            total = len(screen.rows.rows)
            began = time.perf_counter()
            box.value = "week0"
            while len(screen.rows.rows) == total:
                await asyncio.sleep(0.001)
            await pilot.pause()
            return shown, time.perf_counter() - began

    shown, filtered = asyncio.run(drive())
    return {"seconds": shown}, {"seconds": filtered}


def step_workbench(home: Path) -> dict[str, float]:
    """The workbench as a process in a terminal, to its first picture."""
    from sessions.run.own_process import own_process
    from tests.tui.terminal import Terminal

    environment = {**os.environ, "KASOKU_HOME": str(home), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    terminal = Terminal(160, 48, live=False)
    terminal.start(own_process("tui.command_line"), environment)
    assert terminal.wait_until_sent(b"sessions", 60)
    time.sleep(0.5)
    terminal.hang_up()
    painted = next(frame.at for frame in terminal.frames() if any("sessions" in line for line in frame.lines))
    return {"seconds": painted - terminal.began}


def step_quote(home: Path) -> dict[str, float]:
    """The session in the terms of another tool, which takes the gaps between all tokens."""
    from sessions.disk.store import Store
    from tui.commands.other_tools import show_as

    folder = Store(home / "sessions").folder("last")
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        show_as(folder, "vllm", True)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "methods": len(json.loads(said.getvalue())["methods"])}


def step_compare(home: Path) -> dict[str, float]:
    """The session's own comparison."""
    return _compared(home, list)


def step_follow(home: Path) -> dict[str, float]:
    """A viewer that comes late: all of the journal, a snapshot ten times a second."""
    from sessions.disk.store import Store
    from sessions.watch.following import Follower

    store = Store(home / "sessions")
    began = last = time.perf_counter()
    follower = Follower(store.folder("last"))
    while follower.poll(128 << 10):
        if (now := time.perf_counter()) - last >= 0.1:
            last = now
            follower.snapshot()
    live = follower.snapshot()
    seconds = time.perf_counter() - began
    assert live.status == "finished"
    assert not follower.rejected
    return {"seconds": seconds, "requests": sum(method.requests_done for method in live.methods)}


def step_finalise(home: Path) -> dict[str, float]:
    """From the journal to the four frames and session.json, as whoever opens an interrupted session does it."""
    import polars as pl

    from sessions.close.session_end import recover
    from sessions.disk.store import Store

    folder = Store(home / "sessions").folder("last")
    for frame in ("runs", "requests", "tokens", "telemetry"):
        folder.frame(frame).unlink(missing_ok=True)
    began = time.perf_counter()
    recover(folder)
    seconds = time.perf_counter() - began
    assert folder.read().error == "", folder.read().error
    return {"seconds": seconds, "tokens": pl.scan_parquet(folder.frame("tokens")).select(pl.len()).collect().item()}


def step_open(home: Path) -> dict[str, float]:
    """The session in full, as the Session screen reads it from the frames."""
    from sessions.disk.store import Store
    from tui.read.session_facts import read_session

    began = time.perf_counter()
    facts = read_session(Store(home / "sessions"), "last")
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "requests": len(facts.requests)}


STEPS: dict[str, Callable[[Path], dict[str, float]]] = {
    name.removeprefix("step_").replace("_", "-"): step
    for name, step in list(globals().items())
    if name.startswith("step_")
}


# Each in a process of its own


def measured(command: Sequence[str], home: Path) -> tuple[str, dict[str, float]]:
    """What a process printed; the seconds it took, its CPU seconds, and its peak memory in MB."""
    environment = {**os.environ, "KASOKU_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *command], stdout=out, env=environment, cwd=ROOT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
        out.seek(0)
        cpu = used.ru_utime + used.ru_stime
        return out.read(), {"seconds": seconds, "cpu": cpu, "megabytes": used.ru_maxrss / 1024}


def own(step: str, home: Path, repeats: int = 3) -> dict[str, float]:
    """One step in a process of its own, with the CPU time and memory of all of that: the quickest of some if quick."""
    found: list[dict[str, float]] = []
    while not found or (len(found) < repeats and found[0]["seconds"] < QUICK_S):
        said, figures = measured([__file__, "--step", step, "--folder", str(home)], home)
        found.append(figures | json.loads(said.splitlines()[-1]))
    return min(found, key=lambda figures: figures["seconds"])


def kasoku(arguments: Sequence[str], home: Path, repeats: int) -> dict[str, float]:
    """`kasoku …` as a process, with what it prints going into a file: the quickest of some, after a first one."""
    from sessions.run.own_process import own_process

    found = [measured(own_process("tui.command_line", *arguments)[1:], home)[1] for _ in range(1 + repeats)]
    return min(found[1:], key=lambda figures: figures["seconds"])


class Curve:
    """One thing at several sizes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.points: list[tuple[int, dict[str, float]]] = []

    def growth(self, figure: str, least: float) -> list[float]:
        """The exponents between neighbouring sizes; not where the bigger is below `least`."""
        return [
            math.log(after[figure] / before[figure]) / math.log(size / smaller) if after[figure] >= least else 0.0
            for (smaller, before), (size, after) in pairwise(self.points)
        ]

    def lines(self) -> list[str]:
        """A line for each size."""
        times, memories = [0.0, *self.growth("cpu", SHORT_S)], [0.0, *self.growth("megabytes", SMALL_MB)]
        lines = []
        for place, (size, figures) in enumerate(self.points):
            name = self.name if place == 0 else ""
            growth = "".join(f"{f'{grown[place]:.2f}' if grown[place] else '':>8}" for grown in (times, memories))
            took = f"{figures['seconds']:>11.3f} s{figures['cpu']:>11.3f} s{figures['megabytes']:>9.0f} MB"
            lines.append(f"{name:24}{size:>12,}{took}{growth}")
        return lines


def sessions_curves(folder: Path, counts: Sequence[int], repeats: int) -> tuple[list[Curve], list[str]]:
    """The curves over the number of sessions, and the bars that are missed."""
    process = "kasoku sessions, process"
    named: dict[str, Callable[[Path], dict[str, float]]] = {
        "list, first": lambda home: own("list-first", home, repeats),
        "list, again": lambda home: own("list", home, repeats),
        process: lambda home: kasoku(["sessions"], home, repeats),
        "… --json, process": lambda home: kasoku(["sessions", "--json"], home, repeats),
        "workbench, process": lambda home: own("workbench", home, repeats),
        "Sessions screen": lambda home: own("screen", home, repeats),
        "filter": lambda home: own("filter", home, repeats),
        "compare two": lambda home: own("compare-two", home, repeats),
        "compare all": lambda home: own("compare-all", home, repeats),
    }
    curves = {name: Curve(name) for name in named}
    for count in counts:
        home = folder / f"{count}-sessions"
        measured([__file__, "--make-sessions", str(count), "--folder", str(home)], home)
        for name, measure in named.items():
            curves[name].points.append((count, measure(home)))
            print(f"  {count:,} {name}: {curves[name].points[-1][1]}", file=sys.stderr)
    missed = _too_steep(curves.values())
    count, last = curves[process].points[-1]
    if last["seconds"] >= LISTED_BAR_S:
        missed.append(f"`kasoku sessions` on {count:,} sessions took {last['seconds']:.2f} s, not {LISTED_BAR_S:g} s")
    return list(curves.values()), missed


def journal_curves(folder: Path, sizes: Sequence[int], repeats: int) -> tuple[list[Curve], list[str]]:
    """The curves over the length of a journal, and the bars that are missed."""
    return _curves_of_journals(folder, sizes, repeats, "journal", ("follow", "finalise", "open"))


def load_curves(folder: Path, sizes: Sequence[int], repeats: int) -> tuple[list[Curve], list[str]]:
    """The same over the length of the journal of a load, with what reads its tokens afterwards."""
    steps = ("finalise", "open", "compare", "quote")
    curves, missed = _curves_of_journals(folder, sizes, repeats, "load-journal", steps)
    size, last = curves[0].points[-1]
    if last["megabytes"] > FINALISED_BAR_MB:
        missed.append(f"finalising {size:,} tokens took {last['megabytes']:.0f} MB")
    return curves, missed


def _curves_of_journals(
    folder: Path, sizes: Sequence[int], repeats: int, kind: str, steps: Sequence[str]
) -> tuple[list[Curve], list[str]]:
    curves = {name: Curve(name) for name in steps}
    for tokens in sizes:
        home = folder / f"{tokens}-tokens-{kind}"
        if not home.is_dir():
            measured([__file__, f"--make-{kind}", str(tokens), "--folder", str(home)], home)
        size = next(home.glob("sessions/*/journal.ndjson")).stat().st_size
        for name, curve in curves.items():
            curve.points.append((tokens, own(name, home, repeats)))
            print(f"  {tokens:,} tokens, {size / 1e6:.0f} MB, {name}: {curve.points[-1][1]}", file=sys.stderr)
    missed = _too_steep(curves.values())
    if len(sizes) > 1 and "follow" in curves:
        before, after = (figures["megabytes"] for _, figures in curves["follow"].points[-2:])
        if after - before > FOLLOWER_BAR_MB:
            missed.append(f"following took {after - before:.0f} MB more for the longest journal")
    return list(curves.values()), missed


def _too_steep(curves: Any) -> list[str]:
    missed = []
    for curve in curves:
        for figure, least in (("cpu", SHORT_S), ("megabytes", SMALL_MB)):
            steepest = max(curve.growth(figure, least), default=0.0)
            if steepest > GROWTH_BAR:
                missed.append(f"{curve.name}: {figure} grow with N^{steepest:.2f}")
    return missed


def main() -> int:
    """Parse the command line, measure, print; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="all", choices=["sessions", "journals", "loads", "all"])
    parser.add_argument("--sessions", default="10,100,1000,10000")
    parser.add_argument("--tokens", default="10000,100000,1000000,10000000")
    parser.add_argument("--load-tokens", default="1000000,10000000,100000000")
    parser.add_argument("--repeats", type=int, default=3, help="of quick steps, of which the quickest counts")
    parser.add_argument("--folder", type=Path, help="where to put them (default: a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave them there for another time")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--make-sessions", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--make-journal", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--make-load-journal", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(STEPS[options.step](options.folder)))
        return 0
    from benchmarks import scale_made

    for make in (scale_made.make_sessions, scale_made.make_journal, scale_made.make_load_journal):
        if count := getattr(options, make.__name__):
            make(options.folder, count)
            return 0
    from benchmarks.machine_line import machine_line

    folder = options.folder or Path(tempfile.mkdtemp(prefix="kasoku-scale-"))
    print(machine_line("polars", "msgspec", "textual"))
    print(f"{'':24}{'N':>12}{'time':>13}{'process CPU':>13}{'peak':>12}{'growth of CPU, memory':>24}")
    missed: list[str] = []
    try:
        for name, curves_of, sizes in (
            ("sessions", sessions_curves, options.sessions),
            ("journals", journal_curves, options.tokens),
            ("loads", load_curves, options.load_tokens),
        ):
            if options.what in (name, "all"):
                curves, failed = curves_of(folder, [int(size) for size in sizes.split(",")], options.repeats)
                missed += failed
                print("\n".join(line for curve in curves for line in curve.lines()), flush=True)
    finally:
        if not options.keep and options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(f"NOT met: {each}" for each in missed) or "all bars met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
