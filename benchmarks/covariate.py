"""Would a short fixed load around each block, a measure of the host's speed at that moment, narrow a ratio's interval?

    .venv/bin/python benchmarks/covariate.py [--rounds 12] [--method library-default] [--device cpu] [--model M]

Rounds of the baseline and a method in a drawn order, each a fresh process of Kasoku's runner with a fixed load of half
a second before and after it. The log ratio of a round is then taken as it is, and with the loads' log ratio as a
control variate (its coefficient by least squares, one degree of freedom less). Printed are both half-widths of the 95 %
interval: the covariate is worth having if the second is smaller by a fifth or more.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine_line import machine_line
from benchmarks.tokens_per_second import PROMPT_IDS, runner_process, told
from methods.base.home import config_folder, home
from methods.base.interpreter import Unavailable
from methods.catalogue.catalogue import load_catalogue
from methods.environments import environments
from methods.models import models
from sessions.verdict.statistics import t_quantile

LOAD_S = 0.5
LOAD = f"""
import time
end, count = time.perf_counter() + {LOAD_S}, 0
while time.perf_counter() < end:
    sum(range(10_000))
    count += 1
print(count / {LOAD_S})
"""


def load() -> float:
    """Steps a second of the fixed load, in a process of its own."""
    done = subprocess.run([sys.executable, "-I", "-c", LOAD], capture_output=True, check=True, text=True)
    return float(done.stdout)


def half_widths(ratios: np.ndarray, loads: np.ndarray) -> tuple[float, float, float]:
    """Half-width of the mean's 95 % interval without and with the covariate, and their correlation."""
    count = len(ratios)
    plain = t_quantile(0.95, count - 1) * ratios.std(ddof=1) / math.sqrt(count)
    centred = loads - loads.mean()
    slope = float(centred @ (ratios - ratios.mean()) / (centred @ centred))
    rest = ratios - ratios.mean() - slope * centred
    error = math.sqrt(float(rest @ rest) / (count - 2))
    at_zero = error * math.sqrt(1 / count + loads.mean() ** 2 / float(centred @ centred))  # where the loads are equal
    correlation = float(np.corrcoef(ratios, loads)[0, 1])
    return plain, t_quantile(0.95, count - 2) * at_zero, correlation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--method", default="library-default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--requests", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    interpreter = environments.resolve("torch", home(), config_folder())
    if isinstance(interpreter, Unavailable):
        raise SystemExit(interpreter.reason)
    model = models.prepare(options.model, home(), interpreter, told)
    catalogue = load_catalogue(config_folder()).methods
    settings = {
        "model_folder": str(model.folder),
        "dtype": "bfloat16",
        "threads": len(os.sched_getaffinity(0)),
        "device": options.device,
        "prompt_ids": list(PROMPT_IDS),
        "warmups": 1,
        "requests": options.requests,
        "max_new_tokens": options.max_new_tokens,
    }
    drawn = random.Random(options.seed)  # noqa: S311 - an order, not a secret
    ratios, loads = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            speed, host = {}, {}
            for name in drawn.sample(["baseline", options.method], 2):
                before = load()
                speed[name] = runner_process(interpreter, catalogue[name], settings, Path(folder)).tokens_per_second
                host[name] = (before + load()) / 2
            ratios.append(math.log(speed[options.method] / speed["baseline"]))
            loads.append(math.log(host[options.method] / host["baseline"]))
            print(json.dumps({"round": number, "log_ratio": ratios[-1], "log_load": loads[-1]}), file=sys.stderr)
    plain, helped, correlation = half_widths(np.array(ratios), np.array(loads))
    print(machine_line())
    print(f"{options.method} ÷ baseline, {options.rounds} rounds, {model.name} on {options.device}:")
    print(
        f"95 % half-width {plain * 100:.2f} % as it is, {helped * 100:.2f} % with the covariate (r = {correlation:.2f})"
    )


if __name__ == "__main__":
    main()
