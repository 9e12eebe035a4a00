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
sys.path.insert(0, str(ROOT))

from benchmarks.scale_steps import STEPS  # noqa: E402 - the checkout is put on the path first

LISTED_BAR_S = 0.5
GROWTH_BAR = 1.1
FOLLOWER_BAR_MIB = 32.0  # by which following the longest journal may take more memory than following the next shorter
FINALISED_BAR_MIB = 4e9 / 2**20
QUICK_S = 2.0
SHORT_S, SMALL_MIB = 0.1, 50.0  # below these a step's growth is the noise's


def measured(command: Sequence[str], home: Path) -> tuple[str, dict[str, float]]:
    """What a process printed; the seconds it took, its CPU seconds, and its peak memory in MiB."""
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
        return out.read(), {"seconds": seconds, "cpu": cpu, "mebibytes": used.ru_maxrss / 1024}


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
        times, memories = [0.0, *self.growth("cpu", SHORT_S)], [0.0, *self.growth("mebibytes", SMALL_MIB)]
        lines = []
        for place, (size, figures) in enumerate(self.points):
            name = self.name if place == 0 else ""
            growth = "".join(f"{f'{grown[place]:.2f}' if grown[place] else '':>8}" for grown in (times, memories))
            took = f"{figures['seconds']:>11.3f} s{figures['cpu']:>11.3f} s{figures['mebibytes']:>8.0f} MiB"
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
    if last["mebibytes"] > FINALISED_BAR_MIB:
        missed.append(f"finalising {size:,} tokens took {last['mebibytes']:.0f} MiB")
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
        before, after = (figures["mebibytes"] for _, figures in curves["follow"].points[-2:])
        if after - before > FOLLOWER_BAR_MIB:
            missed.append(f"following took {after - before:.0f} MiB more for the longest journal")
    return list(curves.values()), missed


def _too_steep(curves: Any) -> list[str]:
    missed = []
    for curve in curves:
        for figure, least in (("cpu", SHORT_S), ("mebibytes", SMALL_MIB)):
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
