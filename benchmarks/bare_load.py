"""Is the throughput of many requests right? A bare script of an engine, in turns with Kasoku's runner.

    .venv/bin/python benchmarks/bare_load.py [--method vllm] [--concurrency 8[,C…]] [--rounds 5] [--requests 4]
        [--prompt-tokens 32] [--max-new-tokens 64] [--threads 2] [--device cpu] [--json]

Each round is one process of Kasoku's runner and one of the bare script of the method's engine (bare_load_vllm.py,
bare_load_transformers.py), in alternating order, with the same prompts, each of its own, and as many in flight: in each
of the slots `--requests` timed ones after a warm-up. Of several concurrencies a process serves one after another, all
warm-ups first. From the times that either side took, tokens/s are counted as docs/definitions.md says, of the steady
part and of the whole. Prints for each concurrency the mean of the rounds' ratios with its 95 % interval, and how many
rounds would make that as narrow as ±3 %. Both generate greedily. Ends with 1 where an interval of the steady part does
not contain 1.
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
from array import array
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare_engines import VERSIONS, python_of
from benchmarks.bare_llamacpp import NARROW, PROCESS_LIMIT_S, rounds_for
from benchmarks.tokens_per_second import PROMPT_IDS, environ_of, of_runner, told
from methods.base.home import config_folder, home
from methods.base.interpreter import Interpreter
from methods.catalogue.catalogue import load_catalogue
from methods.catalogue.method import Method
from methods.models import models
from sessions.frames.steady_edges import loop_edges
from sessions.verdict.statistics import ratio_interval, t_quantile

METHODS = {"vllm": "vllm", "continuous-batching": "transformers"}
BARE = {engine: Path(__file__).with_name(f"bare_load_{engine}.py") for engine in METHODS.values()}
KV_BYTES_A_TOKEN = 1 << 17  # those of an 8 B model with grouped heads
Taken = Sequence[tuple[int, Sequence[int]]]  # of each timed request its beginning, and the times of its tokens


def prompts_of(count: int, tokens: int) -> list[list[int]]:
    """As many prompts, no two of them alike in their first ids."""
    ids = [PROMPT_IDS[place % len(PROMPT_IDS)] for place in range(tokens)]
    return [[100 + number, *ids[1:]] for number in range(count)]


def bare(interpreter: Interpreter, engine: str, settings: Mapping[str, Any], folder: Path) -> list[Taken]:
    """A process of the engine's bare script."""
    file = folder / "settings.json"
    file.write_text(json.dumps(settings))
    answer = subprocess.run(
        [str(interpreter.python), "-P", "-s", str(BARE[engine]), str(file)],
        capture_output=True,
        env=environ_of(interpreter, folder),
        check=False,
        timeout=PROCESS_LIMIT_S,
    )
    if answer.returncode:
        raise SystemExit(f"The bare script failed:\n{answer.stderr.decode(errors='replace')}")
    taken: list[Taken] = json.loads(next(line for line in answer.stdout.splitlines() if line.startswith(b"[[")))
    return taken


def kasoku(interpreter: Interpreter, method: Method, settings: Mapping[str, Any], folder: Path) -> list[Taken]:
    """A process of Kasoku's runner."""
    requests: list[dict[str, Any]] = []
    prompts: list[list[int]] = []
    timed: list[range] = []
    for place, load in enumerate(settings["loads"]):
        timed.append(range(len(prompts) + load["concurrency"], len(prompts) + len(load["prompts"])))
        for prompt in load["prompts"]:
            number = len(prompts)
            requests.append(
                {
                    "request": number,
                    "warmup": number not in timed[place],
                    "prompt_index": number,
                    "seed": 1,
                    "place": place,
                }
            )
            prompts.append(prompt)
    job = {
        "engine": method.engine,
        "options": dict(method.options),
        **{name: settings[name] for name in ("model_folder", "dtype", "device", "threads")},
        "prompts": prompts,
        "seed": 1,
        "requests": requests,
        "points": [
            {"place": place, "name": f"c{load['concurrency']}", "concurrency": load["concurrency"]}
            for place, load in enumerate(settings["loads"])
        ],
        "sampling": {"max_new_tokens": settings["max_new_tokens"], "stop_token_ids": [], "temperature": 0},
    }
    begun: dict[int, int] = {}
    times: dict[int, list[int]] = {}
    for message in of_runner(interpreter, job, folder):
        if message["k"] == "point_end" and message["status"] != "ok":
            raise SystemExit(f"The runner failed: {message['error']}")
        if message["k"] == "request":
            begun[message["request"]], times[message["request"]] = message["t"], []
        elif message["k"] == "many":
            packed = array("q", b64decode(message["times"]))
            for number, count in zip(message["requests"], message["counts"], strict=True):
                times[number] += packed[:count]
                packed = packed[count:]
    return [[(begun[number], times[number]) for number in numbers] for numbers in timed]


def speeds(taken: Taken, in_flight: int) -> tuple[float, float]:
    """Tokens/s of the steady part and of the whole."""
    starts, ends = [begin for begin, _ in taken], [times[-1] for _, times in taken]
    tokens = [each for _, times in taken for each in times]
    edges = loop_edges(starts, ends, in_flight)
    if edges is None:
        raise SystemExit(f"There were never {in_flight} requests in flight.")
    steady = sum(edges[0] < each <= edges[1] for each in tokens) / (edges[1] - edges[0]) * 1e9
    return steady, len(tokens) / (max(ends) - min(starts)) * 1e9


def compared(own: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Both sides' medians, the ratio of the rounds with its interval, and the rounds that a narrow one would take."""
    interval = ratio_interval(own, other)
    return {
        "medians": {"kasoku": statistics.median(own), "bare": statistics.median(other)},
        "ratio": None if interval is None else [interval.estimate, interval.low, interval.high],
        "rounds_for_3_percent": rounds_for(
            [math.log(each / beside) for each, beside in zip(own, other, strict=True)], NARROW, t_quantile
        ),
    }


def concurrencies(text: str) -> list[int]:
    """Of an argument such as `16,64`."""
    return [int(each) for each in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> int:
    methods = load_catalogue(config_folder()).methods
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, default="vllm")
    parser.add_argument("--concurrency", type=concurrencies, default=[8], metavar="C[,C…]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4, help="timed requests of each slot in a process (default 4)")
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    method = methods[options.method]
    interpreter = python_of(method.environments[options.device])
    model = models.prepare(options.model, home(), python_of("torch"), told)
    settings = {
        "model_folder": str(model.folder),
        "dtype": "bfloat16",
        **{name: getattr(options, name) for name in ("threads", "device", "max_new_tokens")},
        "loads": [
            {
                "concurrency": in_flight,
                "prompts": prompts_of((options.requests + 1) * in_flight, options.prompt_tokens),
            }
            for in_flight in options.concurrency
        ],
        "kv_bytes": KV_BYTES_A_TOKEN
        * max(options.concurrency)
        * (options.prompt_tokens + options.max_new_tokens + 256),
    }
    found: dict[str, list[list[tuple[float, float]]]] = {"kasoku": [], "bare": []}
    with tempfile.TemporaryDirectory(prefix="kasoku-benchmark-") as temporary:
        folder = Path(temporary)
        for number in range(options.rounds):
            for side in ("kasoku", "bare") if number % 2 == 0 else ("bare", "kasoku"):
                taken = (
                    kasoku(interpreter, method, settings, folder)
                    if side == "kasoku"
                    else bare(interpreter, method.engine, settings, folder)
                )
                found[side].append([speeds(each, load) for each, load in zip(taken, options.concurrency, strict=True)])
            for place, in_flight in enumerate(options.concurrency):
                said = " and ".join(
                    f"{side} {rows[-1][place][0]:.1f} ({rows[-1][place][1]:.1f})" for side, rows in found.items()
                )
                print(
                    f"  {number + 1}/{options.rounds}, {in_flight} in flight: {said} tok/s steady (whole)",
                    file=sys.stderr,
                )

    summary: dict[str, Any] = {
        "method": method.name,
        "model": model.name,
        "versions": {name: interpreter.versions[name] for name in (*VERSIONS, "torch", "transformers")
                     if name in interpreter.versions},
        "threads": options.threads,
        "cpus": len(os.sched_getaffinity(0)),
        "rounds": options.rounds,
    }  # fmt: skip
    contains_one = True
    for place, in_flight in enumerate(options.concurrency):
        own, other = ([row[place] for row in found[side]] for side in ("kasoku", "bare"))
        judged = {name: compared([row[part] for row in own], [row[part] for row in other])
                  for part, name in enumerate(("steady", "whole"))}  # fmt: skip
        summary[f"{in_flight} in flight"] = judged
        ratio = judged["steady"]["ratio"]
        contains_one &= ratio is None or ratio[1] <= 1 <= ratio[2]
    print(json.dumps(summary) if options.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
    return 0 if contains_one else 1


if __name__ == "__main__":
    sys.exit(main())
