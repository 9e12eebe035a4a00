"""Whether faults planted into a model are found by the scores of fidelity, and damage is found in its order.

    python -m benchmarks.planted_faults [--model M] [--seeds N] [--scored S] [--fault NAME]…

In the environment `torch` of this machine's home: the reference in another process, with scaled dot-product attention,
which gives the floor, and with each fault. A seed draws the half of the windows that the floor is taken from, a fault
being judged on the other half, and for `head` which head it is. A fault is found on a path where the 95 % interval of
its mean ΔNLL over windows lies outside of the floor's, or that of its divergence beyond twice the floor's. SDPA
itself, judged likewise, should not be found. Weights of 4 bits that are claimed to be of 8 are judged by the floor that
8 bits give.
Prints a table in markdown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy import stats

from methods.base.home import config_folder, home
from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.base.warded_process import WardedProcess
from methods.environments import environments
from methods.jobs.runner_job import RUNNER, run_job
from methods.models import models
from sessions.disk.options import RunOptions
from sessions.disk.plan import Plan
from sessions.disk.sampling import Sampling
from sessions.planning.fidelity_rule import rule_of
from sessions.planning.fidelity_windows import windows_of
from sessions.verdict.fidelity_floor import FURTHER

BASELINE: Final = {"attn_implementation": "eager", "cache": "dynamic"}
FAULTS: Final = {
    "RoPE base 10,000": "rope",
    "the last layer dropped": "dropped",
    "position wrong from 64 on, in decoding": "late",
}
FACTORS: Final = (1.02, 1.05, 1.1, 1.5)
CLAIMED_AND_HELD: Final = (8, 4)
NAMES: Final = ("scaled", "rounded", "head", *FAULTS.values())
FAULTY: Final = Path(__file__).parents[1] / "tests" / "methods" / "faulty_engine.py"
Floats = np.ndarray[Any, np.dtype[np.float64]]
PATHS: Final = ("prefill", "decode")
PROMPT_TOKENS: Final = 80  # so that a decode step gets beyond position 64


@dataclass(frozen=True, slots=True)
class Loss:
    """ΔNLL and KL of windows on one path, in nats per token, each an array of a number per window."""

    apart: Floats
    kl: Floats

    def of(self, windows: np.ndarray[Any, Any]) -> Loss:
        """Of these windows alone."""
        return Loss(self.apart[windows], self.kl[windows])


def interval_of(windows: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean over windows."""
    count = len(windows)
    reach = float(stats.t.ppf(0.975, count - 1) * windows.std(ddof=1) / np.sqrt(count))
    return float(windows.mean()) - reach, float(windows.mean()) + reach


class Campaign:
    """One model, its windows and their reference."""

    def __init__(self, model: models.Model, interpreter: Interpreter, folder: Path, scored: int, threads: int) -> None:
        self._model, self._interpreter, self._folder, self._threads = model, interpreter, folder, threads
        options = RunOptions(model=model.source, sampling=Sampling(max_new_tokens=scored))
        plan = Plan(model=model.source, sampling=options.sampling, fidelity_rule=rule_of(options)[1])
        self._windows = windows_of(plan, model, PROMPT_TOKENS)
        job = self._job("reference", "transformers", BASELINE) | {
            "texts": [{"ids": window.ids, "scored": window.scored} for window in self._windows.texts],
            "contexts": self._windows.contexts,
            "scored": self._windows.scored,
            "folder": str(folder),
            "most_bytes": 1 << 30,
        }
        run_job(interpreter, job, folder / "reference.log", silent)
        self._reference: dict[str, Any] = json.loads((folder / "reference.json").read_bytes())

    def _job(self, job: str, engine: str, options: Mapping[str, object]) -> dict[str, object]:
        return {
            "job": job,
            "engine": engine,
            "options": dict(options),
            "model_folder": str(self._model.folder),
            "dtype": "bfloat16",
            "device": "cpu",
            "threads": self._threads,
            "prompts": [self._windows.contexts[0]],
            "sampling": {"max_new_tokens": self._windows.scored, "temperature": 0.0},
        }

    def losses(self, engine: str, options: Mapping[str, object], paths: Sequence[str] = PATHS) -> dict[str, Loss]:
        """By path, of one process of an engine."""
        continued = zip(self._windows.contexts, self._reference["continuations"], strict=True)
        windows = [window.ids for window in self._windows.texts] + [[*context, *ids] for context, ids in continued]
        scored = self._windows.scored
        job = self._job("measure", engine, options) | {
            "schema": 1,
            "paths": list(self._interpreter.paths),
            "requests": [{"request": 0, "warmup": False}],
            "fidelity": {"windows": [{"ids": ids, "scored": scored} for ids in windows], "folder": str(self._folder)},
        }
        said = self._messages(job, paths)
        return {path: self._loss([row for row in said if row["path"] == path], path) for path in paths}

    def _messages(self, job: Mapping[str, object], paths: Sequence[str]) -> list[dict[str, Any]]:
        place = self._folder / "job.json"
        place.write_text(json.dumps(job))
        command = [str(self._interpreter.python), "-I", str(RUNNER), str(place), WardedProcess.WIRE]
        process = WardedProcess(
            command, self._folder / "job.log", dict(self._interpreter.variables), self._folder, 1 << 24
        )
        try:
            lines = [json.loads(line) for line in process.lines_to_the_end() if line]
        finally:
            process.close()
        failed = [line for line in lines if line["k"] == "error" or (line["k"] == "unscored" and line["path"] in paths)]
        if failed:
            raise SystemExit(f"A run failed: {failed[0]}")
        return [line for line in lines if line["k"] == "scores"]

    def _loss(self, rows: Sequence[Mapping[str, Any]], path: str) -> Loss:
        own = np.array([row["nll"] for row in rows])
        kl = np.array([row["kl"] for row in rows]) / own.shape[1]
        return Loss((own - np.array(self._reference[path]["nll"])).mean(axis=1), kl)


def is_found(loss: Loss, floor: Loss) -> bool:
    """Whether it lies outside of the floor."""
    (low, high), (floor_low, floor_high) = interval_of(loss.apart), interval_of(floor.apart)
    further = interval_of(loss.kl)[0] > FURTHER * interval_of(floor.kl)[1]
    return low > floor_high or high < floor_low or further


def found_by(losses: Mapping[str, Loss], floor: Mapping[str, Loss], seed: int) -> list[str]:
    """The paths on which half of the windows show what the floor of the other half does not."""
    drawn = np.random.default_rng(seed).permutation(len(floor[PATHS[0]].apart))
    half = len(drawn) // 2
    return [path for path in losses if is_found(losses[path].of(drawn[half:]), floor[path].of(drawn[:half]))]


def told(name: str, losses: Mapping[str, Loss], found: Sequence[Sequence[str]] = ()) -> str:
    """A line of the table; `found` are the paths on which each seed found it."""
    cells = []
    for loss in losses.values():
        low, high = interval_of(loss.apart)
        cells.append(f"{loss.apart.mean():+.5f} ({low:+.5f} to {high:+.5f}) | {loss.kl.mean():.2e}")
    counts = [sum(path in paths for paths in found) for path in losses]
    of = f"{sum(map(bool, found))} of {len(found)} ({', '.join(map(str, counts))})" if found else ""
    cells += ["– | –"] * (len(PATHS) - len(losses))
    return f"| {name} | {' | '.join(cells)} | {of} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scored", type=int, default=128, help="ids of a window")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fault", choices=NAMES, action="append", help="these alone, and the floor")
    asked = parser.parse_args()
    interpreter = environments.resolve("torch", home(), config_folder())
    if not isinstance(interpreter, Interpreter):
        raise SystemExit(interpreter.reason)
    model = models.prepare(asked.model, home(), interpreter, silent)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(model, interpreter, Path(folder), asked.scored, asked.threads)
        print("| | ΔNLL prefill | KL | ΔNLL decode | KL | found by (prefill, decode) |\n|---|---|---|---|---|---|")
        print(told("itself, another process", campaign.losses("transformers", BASELINE)), flush=True)
        floor = campaign.losses("transformers", {"attn_implementation": "sdpa"})
        seeds = range(asked.seeds)
        print(told("SDPA", floor, [found_by(floor, floor, seed) for seed in seeds]), flush=True)
        wanted = asked.fault or NAMES
        for factor in FACTORS if "scaled" in wanted else ():
            scaled = campaign.losses(str(FAULTY), {**BASELINE, "fault": "scaled", "layer": 3, "factor": factor})
            print(told(f"layer 3 × {factor:g}", scaled, [found_by(scaled, floor, seed) for seed in seeds]), flush=True)
        for name, fault in FAULTS.items():
            if fault not in wanted:
                continue
            planted = campaign.losses(str(FAULTY), {**BASELINE, "fault": fault})
            print(told(name, planted, [found_by(planted, floor, seed) for seed in seeds]), flush=True)
        if "rounded" in wanted:
            claimed, held = (
                campaign.losses(str(FAULTY), {**BASELINE, "fault": "rounded", "bits": bits})
                for bits in CLAIMED_AND_HELD
            )
            for name, rounded in (("8 bits", claimed), ("4 bits claimed to be 8", held)):
                print(told(name, rounded, [found_by(rounded, claimed, seed) for seed in seeds]), flush=True)
        if "head" in wanted:
            head = {**BASELINE, "fault": "head", "prefill_only": True}
            heads = [campaign.losses(str(FAULTY), {**head, "seed": seed}, PATHS[:1]) for seed in seeds]
            found = [found_by(each, floor, seed) for seed, each in enumerate(heads)]
            print(told("a head transposed, the first of them", heads[0], found), flush=True)


if __name__ == "__main__":
    main()
