"""Is tokens/s right? Kasoku's runner against a bare script, in the same environment, in alternating processes.

    .venv/bin/python benchmarks/tokens_per_second.py [--processes 5] [--method baseline]… [--requests 3]
        [--max-new-tokens 48] [--json]

For each method prints the median over processes of each side's median e2e tokens/s, N/(t_N−t_0), their ratio, and
whether both generated the same greedy ids. Ends with 1 when a ratio is off by more than 2 % or the ids differ.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from methods.base.home import config_folder, home
from methods.base.interpreter import Interpreter, Unavailable
from methods.base.progress import Progress
from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.method import Method
from methods.environments import environments
from methods.models import models

METHODS = ("baseline", "flash-attention-2", "torch-compile")
BARE = Path(__file__).with_name("bare_generate.py")
RUNNER = Path(__file__).parents[1] / "methods" / "runner"
TOLERANCE = 0.02
PROMPT_IDS = (504, 3575, 282, 4649, 314, 260, 1789, 338, 436, 253, 1142, 355)
PROCESS_LIMIT_S = 900


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """One process: its median tokens/s over the timed requests, and its last greedy ids."""

    tokens_per_second: float
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One method: the medians over processes, and whether every process of both sides generated the same ids."""

    method: str
    bare: float
    runner: float
    ratio: float
    same_ids: bool

    @property
    def agrees(self) -> bool:
        return self.same_ids and abs(self.ratio - 1) <= TOLERANCE


def bare_process(interpreter: Interpreter, settings: Mapping[str, object], folder: Path) -> ProcessResult:
    """A process of the bare script."""
    file = folder / "settings.json"
    file.write_text(json.dumps(settings))
    answer = subprocess.run(
        [str(interpreter.python), "-I", str(BARE), str(file)],
        capture_output=True,
        env=environ_of(interpreter, folder),
        check=False,
        timeout=PROCESS_LIMIT_S,
    )
    if answer.returncode:
        raise SystemExit(f"The bare script failed:\n{answer.stderr.decode(errors='replace')}")
    told = json.loads(answer.stdout.splitlines()[-1])
    return ProcessResult(statistics.median(told["tokens_per_second"]), tuple(told["ids"]))


def runner_process(
    interpreter: Interpreter, method: Method, settings: Mapping[str, object], folder: Path
) -> ProcessResult:
    """A process of Kasoku's runner; tokens/s from the times on its wire."""
    warmups, requests = int(str(settings["warmups"])), int(str(settings["requests"]))
    job = {
        "engine": method.engine,
        "options": dict(method.options),
        **{name: settings[name] for name in ("model_folder", "dtype", "device", "threads")},
        "converted_folder": settings.get("converted_folder"),
        "seed": 1,
        "prompts": [settings["prompt_ids"]],
        "requests": [
            {"request": number, "warmup": number < warmups, "prompt_index": 0, "seed": 1}
            for number in range(warmups + requests)
        ],
        "sampling": {"max_new_tokens": settings["max_new_tokens"], "stop_token_ids": [], "temperature": 0},
    }
    messages = of_runner(interpreter, job, folder)
    begun = {message["request"]: message["t"] for message in messages if message["k"] == "request"}
    times: dict[int, list[int]] = {number: [] for number in begun}
    ids: dict[int, list[int]] = {number: [] for number in begun}
    for message in messages:
        if message["k"] == "tokens":
            times[message["request"]] += message["times"]
            ids[message["request"]] += message["ids"]
    timed = range(warmups, warmups + requests)
    speeds = [len(times[number]) / (times[number][-1] - begun[number]) * 1e9 for number in timed]
    return ProcessResult(statistics.median(speeds), tuple(ids[timed[-1]]))


def of_runner(interpreter: Interpreter, job: Mapping[str, object], folder: Path) -> list[dict[str, Any]]:
    """The messages of a process of Kasoku's runner that measures; ends the program where it fails.

    They go into a file, as whoever read them would take time from the engine where there are few cores.
    """
    file, log, said = folder / "job.json", folder / "runner.log", folder / "messages"
    measure = {"schema": 1, "job": "measure", "paths": list(interpreter.paths)}
    file.write_text(json.dumps({**measure, **job}))
    with log.open("wb") as output, said.open("wb") as wire:
        process = subprocess.run(
            [str(interpreter.python), "-I", str(RUNNER), str(file), str(wire.fileno())],
            pass_fds=[wire.fileno()],
            env=environ_of(interpreter, folder),
            stdout=output,
            stderr=output,
            timeout=PROCESS_LIMIT_S,
            check=False,
        )
    messages = [json.loads(line) for line in said.read_bytes().splitlines()]
    if process.returncode:
        errors = [message["message"] for message in messages if message["k"] == "error"]
        raise SystemExit(f"The runner failed: {' '.join(errors)}\n{log.read_text(errors='replace')}")
    return messages


def environ_of(interpreter: Interpreter, folder: Path) -> dict[str, str]:
    """The same variables for both sides, compile caches included, and where the environment's packages are.

    Kasoku's runner is told that in its job, as it ignores PYTHONPATH.
    """
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(interpreter.paths),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        **interpreter.variables,
    }


def compare(
    interpreter: Interpreter, method: Method, settings: Mapping[str, object], processes: int, folder: Path
) -> Agreement:
    """Alternate: runner, bare, bare, runner, … so that a drift of the machine falls on both sides."""
    bare: list[ProcessResult] = []
    runner: list[ProcessResult] = []
    for number in range(processes):
        for side in ("runner", "bare") if number % 2 == 0 else ("bare", "runner"):
            if side == "bare":
                bare.append(bare_process(interpreter, {**settings, "method": method.name}, folder))
            else:
                runner.append(runner_process(interpreter, method, settings, folder))
            done = (bare if side == "bare" else runner)[-1]
            print(f"  {method.name} {number + 1}/{processes} {side}: {done.tokens_per_second:.2f}", file=sys.stderr)
    medians = [statistics.median(sample.tokens_per_second for sample in side) for side in (bare, runner)]
    return Agreement(
        method=method.name,
        bare=medians[0],
        runner=medians[1],
        ratio=medians[1] / medians[0],
        same_ids=len({sample.ids for sample in [*bare, *runner]}) == 1,
    )


def told(progress: Progress) -> None:
    print(f"{progress.phase}: {progress.detail}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5, help="processes a side and method (default 5)")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all three")
    parser.add_argument("--requests", type=int, default=3, help="timed requests a process (default 3)")
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    interpreter = environments.resolve("torch", home(), config_folder())
    if isinstance(interpreter, Unavailable):
        print(f"{interpreter.reason} {interpreter.remedy}", file=sys.stderr)
        return 1
    model = models.prepare(options.model, home(), interpreter, told)
    catalogue = load_catalogue(config_folder())
    settings = {
        "model_folder": str(model.folder),
        "dtype": "bfloat16",
        "threads": options.threads,
        "device": options.device,
        "prompt_ids": PROMPT_IDS,
        "max_new_tokens": options.max_new_tokens,
        "warmups": options.warmups,
        "requests": options.requests,
    }
    with tempfile.TemporaryDirectory(prefix="kasoku-benchmark-") as folder:
        agreements = [
            compare(interpreter, catalogue.methods[name], settings, options.processes, Path(folder))
            for name in options.method or METHODS
        ]
    machine = {
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg()[0],
        "torch": interpreter.versions.get("torch"),
        "transformers": interpreter.versions.get("transformers"),
    }
    if options.json:
        print(json.dumps({**machine, "settings": settings, "agreements": [asdict(each) for each in agreements]}))
    else:
        print(", ".join(f"{name} {value}" for name, value in machine.items()))
        print(f"median tok/s of {options.processes} processes a side, {options.max_new_tokens} tokens, {model.name}")
        print(f"{'method':<20} {'bare':>8} {'runner':>8} {'ratio':>7}  ids")
        for each in agreements:
            ids = "same" if each.same_ids else "DIFFERENT"
            print(f"{each.method:<20} {each.bare:8.2f} {each.runner:8.2f} {each.ratio:7.4f}  {ids}")
    return 0 if all(each.agrees for each in agreements) else 1


if __name__ == "__main__":
    sys.exit(main())
