"""Is llama.cpp's tokens/s right? A bare loop over llama_decode, and llama-bench, in turns with Kasoku's blocks.

    .venv/bin/python benchmarks/bare_llamacpp.py [--method llamacpp] [--rounds 5] [--requests 3] [--max-new-tokens 48]
        [--threads 2] [--llama-bench PATH] [--json]

Each round is one process of Kasoku's runner and one of the bare script, in alternating order, on the same GGUF. Prints
the geometric mean of the rounds' ratios with its 95 % interval, and how many rounds would make that as narrow as
±3 % where it is not. Both generate greedily. With `--llama-bench`, a run of it is part of every round: its figure (tg)
leaves out the prompt, the choice of the token and the first step from an empty context, so the loop is also timed
without choosing, by feeding a fixed id, and what choosing costs is the difference.

    PYTHON -I benchmarks/bare_llamacpp.py --bare SETTINGS.json      the bare script, in the method's own Python

SETTINGS has gguf, threads, device, prompt_ids, max_new_tokens, warmups, requests. It prints, one a timed request,
"tokens_per_second": N/(t_N - t_0), "decode_per_second": (N-1)/(t_N - t_1), "without_choosing": the same with a fixed
id; and "ids", the greedy ids of the last response. Nothing of Kasoku is imported there.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

METHODS = ("llamacpp", "llamacpp-q8", "llamacpp-q4")
NARROW = 0.03
PROCESS_LIMIT_S = 900


def bare(settings: Mapping[str, object]) -> None:
    """The loop as an engineer would write it with llama-cpp-python's bindings."""
    import ctypes

    import llama_cpp as library

    threads, steps = int(str(settings["threads"])), int(str(settings["max_new_tokens"]))
    prompt = [int(token) for token in settings["prompt_ids"]]  # type: ignore[attr-defined]
    quiet = library.llama_log_callback(lambda *said: None)  # noqa: ARG005
    library.llama_log_set(quiet, None)
    library.llama_backend_init()
    of_model = library.llama_model_default_params()
    of_model.n_gpu_layers = -1 if settings["device"] == "cuda" else 0
    model = library.llama_model_load_from_file(os.fsencode(str(settings["gguf"])), of_model)
    of_context = library.llama_context_default_params()
    of_context.n_ctx, of_context.n_threads, of_context.n_threads_batch = len(prompt) + steps, threads, threads
    context = library.llama_init_from_model(model, of_context)
    memory = library.llama_get_memory(context)
    chain = library.llama_sampler_chain_init(library.llama_sampler_chain_default_params())
    library.llama_sampler_chain_add(chain, library.llama_sampler_init_greedy())
    one = (ctypes.c_int32 * 1)()
    batch_of_one = library.llama_batch_get_one(one, 1)
    whole = (ctypes.c_int32 * len(prompt))(*prompt)

    def response(choosing: bool) -> tuple[list[int], list[float]]:
        library.llama_memory_clear(memory, True)
        ids, times = [], [time.perf_counter()]
        library.llama_decode(context, library.llama_batch_get_one(whole, len(prompt)))
        for step in range(steps):
            ids.append(library.llama_sampler_sample(chain, context, -1) if choosing else prompt[0])
            if not choosing:
                library.llama_synchronize(context)
            times.append(time.perf_counter())
            if step < steps - 1:
                one[0] = ids[-1]
                library.llama_decode(context, batch_of_one)
        return ids, times

    said: dict[str, list[float]] = {
        "tokens_per_second": [],
        "decode_per_second": [],
        "without_choosing": [],
    }
    for number in range(int(str(settings["warmups"])) + int(str(settings["requests"]))):
        ids, times = response(choosing=True)
        _, plain = response(choosing=False)
        if number >= int(str(settings["warmups"])):
            said["tokens_per_second"].append(steps / (times[-1] - times[0]))
            said["decode_per_second"].append((steps - 1) / (times[-1] - times[1]))
            said["without_choosing"].append((steps - 1) / (plain[-1] - plain[1]))
    print(json.dumps({**said, "ids": ids}))


def llama_bench(program: Path, settings: Mapping[str, object]) -> float:
    """llama-bench's own tokens/s of generating (tg) for the same file, length and threads."""
    arguments = ["-m", settings["gguf"], "-p", 0, "-n", settings["max_new_tokens"], "-t", settings["threads"]]
    layers = 99 if settings["device"] == "cuda" else 0
    answer = subprocess.run(
        [str(program), *map(str, arguments), "-ngl", str(layers), "-r", str(settings["requests"]), "-o", "json"],
        capture_output=True,
        check=True,
        timeout=PROCESS_LIMIT_S,
    )
    return float(json.loads(answer.stdout)[0]["avg_ts"])


def main(arguments: Sequence[str] | None = None) -> int:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from benchmarks.tokens_per_second import PROMPT_IDS, environ_of, runner_process, told
    from methods.base.home import config_folder, home
    from methods.base.interpreter import Interpreter, Unavailable
    from methods.catalogue.catalogue import load_catalogue
    from methods.environments import environments
    from methods.models import models
    from methods.models.converted import Converting, Reader
    from sessions.verdict.statistics import ratio_interval, t_quantile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=METHODS, default=METHODS[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3, help="timed requests a process (default 3)")
    parser.add_argument("--warmups", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--llama-bench", type=Path, help="the program, to be run in every round")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    method = load_catalogue(config_folder()).methods[options.method]

    def python_of(environment: str) -> Interpreter | Unavailable:
        return environments.resolve(environment, home(), config_folder())

    interpreter, converter = python_of(method.environments[options.device]), python_of("torch")
    for found in (interpreter, converter):
        if isinstance(found, Unavailable):
            print(f"{found.reason} {found.remedy}", file=sys.stderr)
            return 1
    assert isinstance(interpreter, Interpreter)
    model = models.prepare(options.model, home(), converter, told)
    converting = Converting(
        home=home(),
        dtype="bfloat16",
        device=options.device,
        gpu_uuids=(),
        threads=options.threads,
        variables={},
        interpreter_of=python_of,
        report=told,
    )
    reader = Reader(engine=method.engine, options=method.options, interpreter=interpreter)
    form = converting.converted(model, str(method.conversion), reader)
    settings = {
        "gguf": str(next(form.glob("*.gguf"))),
        "model_folder": str(model.folder),
        "converted_folder": str(form),
        "dtype": "bfloat16",
        **{name: getattr(options, name) for name in ("threads", "device", "max_new_tokens", "warmups", "requests")},
        "prompt_ids": PROMPT_IDS,
    }
    rounds: list[dict[str, float]] = []
    ids: set[tuple[int, ...]] = set()
    with tempfile.TemporaryDirectory(prefix="kasoku-benchmark-") as temporary:
        folder = Path(temporary)
        file = folder / "settings.json"
        file.write_text(json.dumps(settings))
        for number in range(options.rounds):
            row: dict[str, float] = {}
            for side in ("kasoku", "bare", "bench") if number % 2 == 0 else ("bench", "bare", "kasoku"):
                if side == "kasoku":
                    ours = runner_process(interpreter, method, settings, folder)
                    row["kasoku"] = ours.tokens_per_second
                    ids.add(ours.ids)
                elif side == "bare":
                    answer = subprocess.run(
                        [str(interpreter.python), "-I", str(Path(__file__).absolute()), "--bare", str(file)],
                        capture_output=True,
                        env=environ_of(interpreter, folder),
                        check=True,
                        timeout=PROCESS_LIMIT_S,
                    )
                    said = json.loads(answer.stdout.splitlines()[-1])
                    ids.add(tuple(said.pop("ids")))
                    row |= {name: statistics.median(values) for name, values in said.items()}
                elif options.llama_bench is not None:
                    row["llama_bench"] = llama_bench(options.llama_bench, settings)
            rounds.append(row)
            print(f"  {number + 1}/{options.rounds}: {row}", file=sys.stderr)

    ratios = [math.log(row["kasoku"] / row["tokens_per_second"]) for row in rounds]
    interval = ratio_interval([row["kasoku"] for row in rounds], [row["tokens_per_second"] for row in rounds])
    needed = rounds_for(ratios, NARROW, t_quantile)
    medians = {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}
    summary = {
        "method": method.name,
        "model": model.name,
        "llama-cpp-python": interpreter.versions.get("llama-cpp-python"),
        "threads": options.threads,
        "cpus": len(os.sched_getaffinity(0)),
        "rounds": len(rounds),
        "medians": medians,
        "ratio": None if interval is None else [interval.estimate, interval.low, interval.high],
        "rounds_for_3_percent": needed,
        "same_ids": len(ids) == 1,
    }
    print(json.dumps(summary) if options.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
    contains_one = interval is None or interval.low <= 1 <= interval.high
    return 0 if contains_one and len(ids) == 1 else 1


def rounds_for(logs: Sequence[float], half_width: float, quantile: Callable[[float, float], float]) -> int | None:
    """How many rounds make the 95 % interval of the mean ratio no wider than ±half_width; None under two rounds."""
    if len(logs) < 2:
        return None
    spread = statistics.stdev(logs)
    count = 3
    while quantile(0.95, count - 1) * spread / math.sqrt(count) > math.log(1 + half_width):
        count += 1
    return count


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare(json.loads(Path(sys.argv[2]).read_text()))
    else:
        sys.exit(main())
