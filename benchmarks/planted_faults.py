"""Whether faults planted into a model are found by the scores of fidelity, and damage is found in its order.

    python -m benchmarks.planted_faults [--model M] [--seeds N] [--scored S]

In the environment `torch` of this machine's home: the reference in another process, with scaled dot-product attention,
which gives the floor, and with each fault and seed. A fault is found on a path where the 95 % interval of its mean ΔNLL
over windows lies outside of the floor's, or its divergence is ten times the floor's. Prints a table in markdown.
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

BASELINE: Final = {"attn_implementation": "eager", "cache": "dynamic"}
FAULTS: Final = ("head", "rope", "dropped")
FACTORS: Final = (1.02, 1.05, 1.1, 1.5)
FAULTY: Final = Path(__file__).parents[1] / "tests" / "methods" / "faulty_engine.py"
PATHS: Final = ("prefill", "decode")
PROMPT_TOKENS: Final = 80  # so that a decode step gets beyond position 64


@dataclass(frozen=True, slots=True)
class Loss:
    """ΔNLL in nats per token over windows, its 95 % interval, and KL in nats per token."""

    mean: float
    low: float
    high: float
    kl: float


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

    def losses(self, engine: str, options: Mapping[str, object]) -> dict[str, Loss]:
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
        said = self._messages(job)
        return {path: self._loss([row for row in said if row["path"] == path], path) for path in PATHS}

    def _messages(self, job: Mapping[str, object]) -> list[dict[str, Any]]:
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
        failed = [line for line in lines if line["k"] in ("error", "unscored")]
        if failed:
            raise SystemExit(f"A run failed: {failed[0]}")
        return [line for line in lines if line["k"] == "scores"]

    def _loss(self, rows: Sequence[Mapping[str, Any]], path: str) -> Loss:
        own = np.array([row["nll"] for row in rows])
        apart = (own - np.array(self._reference[path]["nll"])).mean(axis=1)
        reach = float(stats.t.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / np.sqrt(len(apart)))
        mean = float(apart.mean())
        return Loss(mean, mean - reach, mean + reach, sum(row["kl"] for row in rows) / own.size)


def is_found(loss: Loss, floor: Loss) -> bool:
    """Whether it lies outside of the floor."""
    return loss.low > floor.high or loss.high < floor.low or loss.kl > 10 * floor.kl


def told(name: str, losses: Mapping[str, Loss], found: str = "") -> str:
    """A line of the table."""
    cells = [f"{loss.mean:+.5f} ({loss.low:+.5f} to {loss.high:+.5f}) | {loss.kl:.2e}" for loss in losses.values()]
    return f"| {name} | {' | '.join(cells)} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scored", type=int, default=128, help="ids of a window")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    interpreter = environments.resolve("torch", home(), config_folder())
    if not isinstance(interpreter, Interpreter):
        raise SystemExit(interpreter.reason)
    model = models.prepare(asked.model, home(), interpreter, silent)
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(model, interpreter, Path(folder), asked.scored, asked.threads)
        print("| | ΔNLL prefill | KL | ΔNLL decode | KL | found |\n|---|---|---|---|---|---|", flush=True)
        print(told("itself, another process", campaign.losses("transformers", BASELINE)), flush=True)
        floor = campaign.losses("transformers", {"attn_implementation": "sdpa"})
        print(told("floor: SDPA", floor), flush=True)
        for factor in FACTORS:
            scaled = campaign.losses(str(FAULTY), {**BASELINE, "fault": "scaled", "layer": 3, "factor": factor})
            print(told(f"layer 3 × {factor:g}", scaled, _paths(scaled, floor)), flush=True)
        late = campaign.losses(str(FAULTY), {**BASELINE, "fault": "late"})
        print(told("position wrong from 64 on, in decoding", late, _paths(late, floor)), flush=True)
        for fault in FAULTS:
            seeds = range(asked.seeds if fault == "head" else 1)  # the others draw nothing
            runs = [campaign.losses(str(FAULTY), {**BASELINE, "fault": fault, "seed": seed}) for seed in seeds]
            found = sum(any(is_found(run[path], floor[path]) for path in PATHS) for run in runs)
            print(told(f"{fault}, seed 0", runs[0], f"{found} of {len(runs)}"), flush=True)


def _paths(losses: Mapping[str, Loss], floor: Mapping[str, Loss]) -> str:
    return ", ".join(path for path in PATHS if is_found(losses[path], floor[path])) or "none"


if __name__ == "__main__":
    main()
