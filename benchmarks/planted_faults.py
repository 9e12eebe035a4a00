"""Whether faults planted into a model are found by the product's verdict of fidelity, and damage in its order.

    python -m benchmarks.planted_faults [--model M] [--seeds N] [--scored S] [--fault NAME]… [--at-once N]
        [--frame FILE]

In the environment `torch` of this machine's home, against the reference that any session there has (it is kept in the
home's cache): the reference in another process, with scaled dot-product attention, which gives the floor, and with each
fault. A seed draws the half of the windows that the floor is taken from, the other half being judged, and for `head`
which head it is. A fault is found on a path where sessions/verdict says that it differs. SDPA itself, judged likewise,
should not be found. Weights of 4 bits that are claimed to be of 8 are judged by the floor that 8 bits give.
Prints a table in markdown. `--frame` keeps what was scored, as a session's fidelity frame; what it has of the same
reference, and so of the same model, windows and threads, is not scored again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import polars as pl

from methods.base.home import CACHE, config_folder, home
from methods.base.interpreter import Interpreter
from methods.base.progress import silent
from methods.base.warded_process import WardedProcess
from methods.environments import environments
from methods.jobs.runner_job import RUNNER
from methods.models import models
from sessions.disk.frame_schema import FIDELITY
from sessions.disk.options import RunOptions
from sessions.disk.plan import Plan
from sessions.disk.records import Scores
from sessions.disk.sampling import Sampling
from sessions.frames.fidelity import FidelityRows
from sessions.planning.fidelity_rule import rule_of
from sessions.run.reference import ReferenceJob
from sessions.run.reference_cache import folder_of
from sessions.verdict.fidelity_figures import PATHS, Figures
from sessions.verdict.fidelity_floor import floor_of
from sessions.verdict.fidelity_verdict import judge
from sessions.verdict.fidelity_windows import by_path

BASELINE: Final = {"attn_implementation": "eager", "cache": "dynamic"}
SDPA, EIGHT = "SDPA", "8 bits"
FAULTY: Final = str(Path(__file__).parents[1] / "tests" / "methods" / "faulty_engine.py")
PROMPT_TOKENS: Final = 80  # so that a decode step gets beyond position 64
NAMES: Final = ("scaled", "rounded", "head", "rope", "dropped", "late")
Scored = Mapping[str, Figures]  # by path


@dataclass(frozen=True, slots=True)
class Planted:
    """What is scored under `name`; `floor` names what gives the floor, `seed` the only one that it is judged by."""

    name: str
    fault: str = ""
    engine: str = FAULTY
    options: Mapping[str, object] = field(default_factory=dict)
    floor: str = SDPA
    seed: int | None = None


def planted(seeds: int) -> list[Planted]:
    """Everything that the campaign scores, what gives a floor first."""
    rounded = [
        Planted(name, "rounded", options={"fault": "rounded", "bits": bits}, floor=EIGHT)
        for name, bits in ((EIGHT, 8), ("4 bits claimed to be 8", 4))
    ]
    return [
        Planted("itself, another process", engine="transformers"),
        Planted(SDPA, engine="transformers", options={"attn_implementation": "sdpa"}),
        *(
            Planted(f"layer 3 × {factor:g}", "scaled", options={"fault": "scaled", "layer": 3, "factor": factor})
            for factor in (1.02, 1.05, 1.1, 1.5)
        ),
        Planted("RoPE base 10,000", "rope", options={"fault": "rope"}),
        Planted("the last layer dropped", "dropped", options={"fault": "dropped"}),
        Planted("position wrong from 64 on, in decoding", "late", options={"fault": "late"}),
        *rounded,
        *(
            Planted(f"head {seed}", "head", seed=seed, options={"fault": "head", "prefill_only": True, "seed": seed})
            for seed in range(seeds)
        ),
    ]


class Campaign:
    """One model, its windows and their reference."""

    def __init__(self, model: models.Model, interpreter: Interpreter, scored: int, threads: int) -> None:
        self._model, self._interpreter, self._threads = model, interpreter, threads
        options = RunOptions(model=model.source, sampling=Sampling(max_new_tokens=scored))
        plan = Plan(
            model=model.source,
            sampling=options.sampling,
            fidelity_rule=rule_of(options)[1],
            device="cpu",
            threads=threads,
        )
        job = ReferenceJob(plan, home(), config_folder(), silent)
        self._scored, self._reference = scored, job.scored(model, model, PROMPT_TOKENS)
        if self._reference.reason:
            raise SystemExit(self._reference.reason)
        self.key = self._reference.key

    def frame(self, each: Planted) -> pl.DataFrame:
        """The rows of the fidelity frame that one process gives."""
        windows = [{"ids": window.ids, "scored": window.scored} for window in self._reference.windows]
        job: dict[str, object] = {
            "job": "measure",
            "schema": 1,
            "engine": each.engine,
            "options": {**BASELINE, **each.options},
            "model_folder": str(self._model.folder),
            "dtype": "bfloat16",
            "device": "cpu",
            "threads": self._threads,
            "prompts": [self._reference.windows[-1].ids[:PROMPT_TOKENS]],
            "sampling": {"max_new_tokens": self._scored, "temperature": 0.0},
            "paths": list(self._interpreter.paths),
            "requests": [{"request": 0, "warmup": False}],
            "fidelity": {"windows": windows, "folder": str(folder_of(home() / CACHE, self._reference.key))},
        }
        rows = FidelityRows()
        rows.reference = self._reference
        for line in self._said(job):
            if line["k"] == "error" or (line["k"] == "unscored" and "prefill_only" not in each.options):
                raise SystemExit(f"A run failed: {line}")
            if line["k"] == "scores":
                rows.add(msgspec.convert({**line, "method": each.name, "block": 0}, Scores), (each.name, 0, 0))
        return rows.frame(self.key, ())

    def _said(self, job: Mapping[str, object]) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "job.json"
            place.write_text(json.dumps(job))
            command = [str(self._interpreter.python), "-I", str(RUNNER), str(place), WardedProcess.WIRE]
            process = WardedProcess(
                command, Path(folder) / "job.log", dict(self._interpreter.variables), Path(folder), 1 << 24
            )
            try:
                return [json.loads(line) for line in process.lines_to_the_end() if line]
            finally:
                process.close()


def figures_of(rows: pl.DataFrame) -> Scored:
    """By path, of what one process scored."""
    found = by_path(rows.iter_rows(named=True))
    return {path: scored.figures for path in PATHS if (scored := found.get(path)) and scored.figures is not None}


def found_by(scored: Scored, floors: Scored, seed: int) -> list[str]:
    """The paths on which half of the windows show what the floor of the other half does not."""
    found = []
    for path, figures in scored.items():
        drawn = np.random.default_rng(seed).permutation(len(figures.windows))
        half = len(drawn) // 2
        judged = Figures(tuple(figures.windows[place] for place in drawn[half:]))
        others = Figures(tuple(floors[path].windows[place] for place in drawn[:half]))
        floor = floor_of({"": others}, "", len(judged.windows), {"": floors[path]})
        found += [path] if judge(figures, judged, floor).kind == "differs" else []
    return found


def told(name: str, scored: Scored, found: Sequence[Sequence[str]]) -> str:
    """A line of the table; `found` are the paths on which each seed found it."""
    cells = []
    for path in PATHS:
        figures = scored.get(path)
        loss = figures.loss.interval() if figures is not None and figures.loss is not None else None
        if figures is None or loss is None or figures.divergence is None or figures.clear_agreement is None:
            cells.append("– | – | –")
            continue
        flips = 100 * (1 - figures.clear_agreement.estimate)
        shown = f"{loss.estimate:+.5f} ({loss.low:+.5f} to {loss.high:+.5f})"
        cells.append(f"{shown} | {figures.divergence.estimate:.2e} | {flips:.1f} %")
    counts = [sum(path in paths for paths in found) for path in PATHS]
    cells.append(f"{sum(map(bool, found))} of {len(found)} ({', '.join(map(str, counts))})")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scored", type=int, default=64, help="ids of a window (default 64)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=1, help="processes at a time")
    parser.add_argument("--fault", choices=NAMES, action="append", help="these alone, and the floor")
    parser.add_argument("--frame", type=Path, help="a parquet file that keeps what was scored")
    asked = parser.parse_args()
    interpreter = environments.resolve("torch", home(), config_folder())
    if not isinstance(interpreter, Interpreter):
        raise SystemExit(interpreter.reason)
    model = models.prepare(asked.model, home(), interpreter, silent)
    everything = [each for each in planted(asked.seeds) if not each.fault or each.fault in (asked.fault or NAMES)]
    kept = pl.read_parquet(asked.frame) if asked.frame and asked.frame.exists() else pl.DataFrame(schema=FIDELITY)
    campaign = Campaign(model, interpreter, asked.scored, asked.threads)
    known = kept.filter(pl.col("session") == campaign.key)["method"]
    left = [each for each in everything if each.name not in known]
    with ThreadPoolExecutor(asked.at_once) as pool:
        for rows in pool.map(campaign.frame, left):
            kept = pl.concat([kept, rows])
            if asked.frame:
                kept.write_parquet(asked.frame)
    own = kept.filter(pl.col("session") == campaign.key)
    scored = {each.name: figures_of(own.filter(pl.col("method") == each.name)) for each in everything}
    print("| | ΔNLL prefill | KL | flips | ΔNLL decode | KL | flips | found by (prefill, decode) |")
    print("|---|---|---|---|---|---|---|---|")
    heads = []
    for each in everything:
        seeds = range(asked.seeds) if each.seed is None else [each.seed]
        found = [found_by(scored[each.name], scored[each.floor], seed) for seed in seeds]
        if each.fault == "head":
            heads += found
        else:
            print(told(each.name, scored[each.name], found))
    if heads:
        print(told("a head transposed, the first of them", scored["head 0"], heads))


if __name__ == "__main__":
    main()
