"""A real method on two hosts of a real Ray cluster: are its figures those of a local run, and how does it look?

    python benchmarks/hosts_real.py --same 5                              needs root, for network namespaces
    python benchmarks/hosts_real.py --picture docs/pictures/hosts.svg

Both hosts use the environment `torch` and the default model of the home that KASOKU_HOME names. `--same` runs the same
session in turn, begun from here and on the host itself, and gives the ratio of the rates with its 95 % interval.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.hosts import BACK_S, ended
from benchmarks.hosts_here import NAMES, Machines, can_be_apart, machines
from benchmarks.machine_line import machine_line
from benchmarks.pictures import self_contained
from methods.base.home import MODELS, SESSIONS, config_folder, home
from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.environments import environments
from methods.models import models
from sessions.close.session_end import recover
from sessions.disk.frame_schema import read_frame
from sessions.disk.session_folder import SessionFolder
from sessions.verdict.statistics import ratio_interval
from tests.sessions.processes import until
from tests.sessions.workplace import KASOKU
from tui.app import Workbench
from tui.widgets.session_line import SessionLine


def lend_torch(here: Machines) -> None:
    """Both hosts can use this home's environment torch and its default model from now on."""
    torch = environments.resolve("torch", home(), config_folder())
    if not isinstance(torch, Interpreter):
        raise SystemExit(torch.reason)
    models.prepare(models.DEFAULT, home(), torch, silent)
    for work in here.hosts.values():
        own = os.environ | {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
        used = [str(KASOKU), "env", "use", "torch", str(torch.python)]
        subprocess.run(used, env=own, check=True, stdout=subprocess.DEVNULL, timeout=300)
        (work.home / MODELS).symlink_to(home() / MODELS)


async def picture(here: Machines) -> str:
    """The workbench on a run on both hosts, in its last round."""
    asked = ["--method", "baseline", "--method", "library-default", "--method", "flash-attention-2", "--blocks", "3"]
    asked += ["--requests", "6", "--max-new-tokens", "48", "--device", "cpu", "--threads", "1", "--no-fidelity"]
    lend_torch(here)
    said = here.kasoku("run", *here.named(), *asked, "--detach")
    assert said.returncode == 0, said.stderr
    app = Workbench(here.here.home, here.here.config)
    async with app.run_test(size=(120, 24)) as pilot:

        def last_round() -> bool:
            shown = [line.live for line in app.screen.query("SessionPanel SessionLine").results(SessionLine)]
            return len(shown) == len(NAMES) and all(
                live is not None and live.block == 2 and not live.warmup and live.tokens > 8 for live in shown
            )

        end = time.monotonic() + BACK_S
        while not last_round():
            assert time.monotonic() < end, "never saw both in their last round"
            await pilot.pause(0.05)
        return app.export_screenshot(title="kasoku")


def told_apart(here: Machines, rounds: int) -> str:
    """Whether figures on a host are those of a local run there: the same session begun from here and on it, in turn."""
    name = NAMES[0]
    work = here.hosts[name]
    torch = environments.resolve("torch", home(), config_folder())
    if not isinstance(torch, Interpreter):
        raise SystemExit(torch.reason)
    model = models.prepare(models.DEFAULT, home(), torch, silent)
    there = os.environ | {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
    inside = ["ip", "netns", "exec", f"kasoku-{name}", str(KASOKU)]
    used = [*inside, "env", "use", "torch", str(torch.python)]
    subprocess.run(used, env=there, check=True, stdout=subprocess.DEVNULL, timeout=300)
    asked = [
        "--method",
        "baseline",
        "--model",
        str(model.folder),
        "--device",
        "cpu",
        "--blocks",
        "1",
        "--requests",
        "6",
    ]
    asked += ["--max-new-tokens", "64", "--no-fidelity", "--seed", "7", "--detach"]
    on = ["--on", here.on, "--host", f"{name}=box-{name}"]
    rates: dict[str, list[float]] = {"from here": [], "there": []}
    for number in range(rounds + 1):  # the first round fills the caches of both
        for way in sorted(rates, reverse=number % 2 == 1):
            if way == "there":
                said = subprocess.run(
                    [*inside, "run", *asked], env=there, capture_output=True, text=True, timeout=300, check=False
                )
            else:
                said = here.kasoku("run", *on, *asked)
            assert said.returncode == 0, said.stderr
            at = work.home if way == "there" else here.here.home
            folder = SessionFolder(at / SESSIONS / said.stdout.split()[-1])
            until(partial(ended, folder), f"{folder.id} ends", BACK_S)
            recover(folder)
            requests = read_frame(folder.frame("requests"), "requests").filter(~pl.col("warmup"))
            if number:
                rates[way].append(float(requests["e2e_tok_s"].mean()))  # type: ignore[arg-type]
    interval = ratio_interval(rates["from here"], rates["there"])
    assert interval is not None
    shown = {way: f"{sum(values) / len(values):.2f}" for way, values in rates.items()}
    return (
        f"baseline, tokens/s: {shown}; begun from here ÷ begun there {interval.estimate:.3f}"
        f" ({interval.low:.3f} to {interval.high:.3f}), {rounds} rounds"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--same", type=int, metavar="ROUNDS", help="a host's figures beside a local run's")
    parser.add_argument("--picture", type=Path, help="the workbench on both hosts, as an SVG into this file")
    options = parser.parse_args()
    print(machine_line("ray", "textual"), flush=True)
    if reason := can_be_apart():
        print(f"This needs hosts apart: {reason}.")
        return 1
    with machines() as here:
        if options.same:
            print(told_apart(here, options.same))
        if options.picture:
            options.picture.write_text(self_contained(asyncio.run(picture(here))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
