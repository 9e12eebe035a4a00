"""One session quoted in the terms of another tool, each number with its formula.

Per request: t_0 begin, t_1 first and t_N last token, P prompt and N output tokens; E2E = t_N − t_0, TTFT = t_1 − t_0.
The wall time is the sum over blocks of the time from the first timed request's begin to the last one's end. Only timed
requests of the blocks that count are quoted; under a load those of each point apart, its ramp and its tail among them,
because that is what these tools count. A request begins when it is sent, whenever it was due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sessions.disk.frame_schema import TOKENS
from sessions.disk.point import ALONE
from sessions.frames.counting import counted_requests, in_their_order, with_point
from sessions.frames.metrics import REQUEST_KEY, inter_token_latencies
from sessions.frames.response_tokens import ResponseTokens

Values = NDArray[np.float64]


class OtherToolError(Exception):
    """The session cannot be reported that way; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number under the tool's name, in the tool's unit; None if it is not defined for these requests."""

    name: str
    value: float | None
    unit: str
    formula: str


@dataclass(frozen=True, slots=True)
class Quotation:
    """One method in the tool's terms, at one point of a load; `point` is empty where there is none."""

    method: str
    requests: int
    quantities: tuple[Quantity, ...]
    point: str = ""


@dataclass(frozen=True, slots=True)
class OtherTool:
    """`quote` makes the quantities of one method; `note` says what the tool would still measure differently, of a
    session under load `load_note`."""

    tool: str
    note: str
    load_note: str
    quote: Callable[[RequestTimes], tuple[Quantity, ...]]


NO_FIRST: Final = pl.DataFrame(schema={name: TOKENS[name] for name in REQUEST_KEY} | {"first": pl.Int64})


@dataclass(frozen=True, slots=True)
class RequestTimes:
    """The timed requests of a method, one value each: seconds, tokens; `gaps` are all inter-token latencies in seconds.

    `first` counts the tokens that came with the first, `wall` is in seconds. `batch` is how many began together, and
    `batches` has a row of seconds for each that did: until the last had its first token, and from then on to its last.
    """

    ttft: Values
    e2e: Values
    prompt: Values
    output: Values
    first: Values
    gaps: Values
    wall: float
    load: bool = False
    batch: int = 1
    batches: Values = field(default_factory=lambda: np.empty((0, 2)))

    def per_token_after_first(self) -> Values:
        """(E2E − TTFT) / (N − 1) of the requests with two tokens or more."""
        several = self.output > 1
        return (self.e2e - self.ttft)[several] / (self.output[several] - 1)


def quote(tool: str, runs: pl.DataFrame, requests: pl.DataFrame, tokens: ResponseTokens) -> list[Quotation]:
    """Every method of a session's frames in the terms of `tool`, one of OTHER_TOOLS. Raises OtherToolError."""
    if tool not in OTHER_TOOLS:
        raise OtherToolError(f"--as {tool} is not known: use one of {', '.join(OTHER_TOOLS)}.")
    timed = with_point(in_their_order(counted_requests(runs, requests), "start_ns"))
    load = set(timed["point"]) - {ALONE} != set()
    if timed.is_empty():
        raise OtherToolError("No timed request of this session succeeded, so there is nothing to report.")
    quotations = []
    points = with_point(runs)["point"].unique(maintain_order=True) if load else [ALONE]
    for point in points:
        at_point = timed.filter(pl.col("point") == point)
        for method in at_point["method"].unique(maintain_order=True):
            times = _request_times(at_point.filter(pl.col("method") == method), tokens, load)
            quoted = OTHER_TOOLS[tool].quote(times)
            quotations.append(Quotation(method, len(times.e2e), quoted, point if load else ""))
    return quotations


def _request_times(timed: pl.DataFrame, tokens: ResponseTokens, load: bool) -> RequestTimes:
    firsts, gaps = [NO_FIRST], [pl.Series("itl_s", dtype=pl.Float64)]
    for own in tokens.whole_responses(("index", "t_ns"), timed.select(REQUEST_KEY)):
        at_first = (pl.col("t_ns") == pl.col("t_ns").min()).sum().cast(pl.Int64)
        firsts.append(own.group_by(REQUEST_KEY).agg(at_first.alias("first")))
        gaps.append(inter_token_latencies(own.lazy()).select("itl_s").drop_nulls().collect()["itl_s"])
    joined = timed.join(pl.concat(firsts), on=REQUEST_KEY, how="left", maintain_order="left")
    walls = timed.group_by("block").agg((pl.col("end_ns").max() - pl.col("start_ns").min()).alias("wall"))["wall"]
    late = _values(((joined["start_ns"] - joined["scheduled_ns"]) * 1e-9).fill_null(0.0))
    batch = int(timed["batch"].drop_nulls().max() or 1) if load else 1  # type: ignore[arg-type]
    return RequestTimes(
        ttft=_values(joined["ttft_s"]) - late,
        e2e=_values(joined["e2e_s"]) - late,
        prompt=_values(joined["prompt_tokens"]),
        output=_values(joined["output_tokens"]),
        first=_values(joined["first"].fill_null(1)),
        gaps=_values(pl.concat(gaps)),
        wall=float(walls.sum()) / 1e9,
        load=load,
        batch=batch,
        batches=_batches(timed, batch) if batch > 1 else np.empty((0, 2)),
    )


def _batches(timed: pl.DataFrame, batch: int) -> Values:
    """The seconds of each batch, of requests that began together: until all have begun to generate, and after that."""
    together = timed.with_columns((pl.int_range(pl.len()).over("block") // batch).alias("together"))
    spans = together.group_by("block", "together", maintain_order=True).agg(
        ((pl.col("first_token_ns").max() - pl.col("start_ns").min()) * 1e-9).alias("prefill"),
        ((pl.col("end_ns").max() - pl.col("first_token_ns").max()) * 1e-9).alias("decode"),
    )
    values: Values = spans.select("prefill", "decode").to_numpy()
    return values


def _values(series: pl.Series) -> Values:
    values: Values = series.cast(pl.Float64).to_numpy()
    return values


def _spread(name: str, unit: str, formula: str, values: Values, scale: float = 1.0) -> tuple[Quantity, ...]:
    """Mean, median and 99th percentile, as serving benchmarks report them."""
    known = values[np.isfinite(values)] * scale
    shown = (known.mean(), np.median(known), np.percentile(known, 99)) if known.size else (None, None, None)
    return tuple(
        Quantity(f"{word} {name}", None if value is None else float(value), unit, formula)
        for word, value in zip(("mean", "median", "p99"), shown, strict=True)
    )


def _vllm(times: RequestTimes) -> tuple[Quantity, ...]:
    return (
        Quantity("request throughput", len(times.e2e) / times.wall, "req/s", "requests ÷ wall"),
        Quantity("output token throughput", float(times.output.sum()) / times.wall, "tok/s", "Σ N ÷ wall"),
        Quantity(
            "total token throughput",
            float((times.prompt + times.output).sum()) / times.wall,
            "tok/s",
            "Σ (P + N) ÷ wall",
        ),
        *_spread("TTFT", "ms", "t_1 − t_0", times.ttft, 1e3),
        *_spread("TPOT", "ms", "(E2E − TTFT) ÷ (N − 1)", times.per_token_after_first(), 1e3),
        *_spread("ITL", "ms", "all gaps t_{i+1} − t_i", times.gaps, 1e3),
        *_spread("E2EL", "ms", "t_N − t_0", times.e2e, 1e3),
    )


def _guidellm(times: RequestTimes) -> tuple[Quantity, ...]:
    at_once = Quantity("request concurrency", float(times.e2e.sum()) / times.wall, "requests", "Σ E2E ÷ wall")
    return (
        Quantity("requests per second", len(times.e2e) / times.wall, "req/s", "requests ÷ wall"),
        *((at_once,) if times.load else ()),
        *_spread("output tokens per second", "tok/s", "N ÷ E2E of a request", times.output / times.e2e),
        *_spread("request latency", "s", "t_N − t_0", times.e2e),
        *_spread("TTFT", "ms", "t_1 − t_0", times.ttft, 1e3),
        *_spread("ITL", "ms", "(E2E − TTFT) ÷ (N − 1)", times.per_token_after_first(), 1e3),
        *_spread("TPOT", "ms", "E2E ÷ N, prefill included", times.e2e / times.output, 1e3),
    )


def _aiperf(times: RequestTimes) -> tuple[Quantity, ...]:
    several = times.output > times.first
    itl = (times.e2e - times.ttft)[several] / (times.output - times.first)[several]
    formula = "(E2E − TTFT) ÷ (N − tokens of the first chunk)"
    return (
        Quantity("request throughput", len(times.e2e) / times.wall, "req/s", "requests ÷ wall"),
        Quantity("output token throughput", float(times.output.sum()) / times.wall, "tok/s", "Σ N ÷ wall"),
        *_spread("output token throughput per user", "tok/s/user", "1 ÷ ITL", 1 / itl[itl > 0]),
        *_spread("inter token latency", "ms", formula, itl, 1e3),
        *_spread("time to first token", "ms", "t_1 − t_0", times.ttft, 1e3),
        *_spread("request latency", "ms", "t_N − t_0", times.e2e, 1e3),
    )


def _llama_bench(times: RequestTimes) -> tuple[Quantity, ...]:
    prefill, decode = times.prompt / times.ttft, 1 / times.per_token_after_first()
    return (
        Quantity("n_prompt", float(times.prompt.mean()), "tokens", "mean P"),
        *_repeated("pp", "P ÷ TTFT", prefill[times.prompt > 0]),
        Quantity("n_gen", float(times.output.mean()) - 1, "tokens", "mean N − 1"),
        *_repeated("tg", "(N − 1) ÷ (t_N − t_1)", decode),
        *(_batched(times) if times.batch > 1 else ()),
    )


def _batched(times: RequestTimes) -> tuple[Quantity, ...]:
    """As llama-batched-bench has them."""
    prefill, decode = (float(seconds) for seconds in times.batches.sum(axis=0))
    prompt, rest = float(times.prompt.sum()), float(times.output.sum()) - len(times.output)
    return (
        Quantity("B", float(times.batch), "sequences", "that begin together"),
        Quantity("S_PP", prompt / prefill if prefill > 0 else None, "t/s", "Σ P ÷ Σ (last t_1 of a batch − t_0)"),
        Quantity(
            "S_TG", rest / decode if decode > 0 else None, "t/s", "Σ (N − 1) ÷ Σ (last t_N − last t_1 of a batch)"
        ),
        Quantity("S", (prompt + rest) / (prefill + decode), "t/s", "Σ (P + N − 1) ÷ Σ (last t_N of a batch − t_0)"),
    )


def _genai_bench(times: RequestTimes) -> tuple[Quantity, ...]:
    per_token = times.per_token_after_first()
    prompt, output = float(times.prompt.sum()), float(times.output.sum())
    return (
        Quantity("requests_per_second", len(times.e2e) / times.wall, "req/s", "requests ÷ wall"),
        Quantity("mean_input_throughput", prompt / times.wall, "tok/s", "Σ P ÷ wall"),
        Quantity("mean_output_throughput", output / times.wall, "tok/s", "Σ N ÷ wall"),
        Quantity("mean_total_tokens_throughput", (prompt + output) / times.wall, "tok/s", "Σ (P + N) ÷ wall"),
        *_spread("ttft", "s", "t_1 − t_0", times.ttft),
        *_spread("tpot", "s", "(E2E − TTFT) ÷ (N − 1)", per_token),
        *_spread("output_inference_speed", "tok/s", "1 ÷ tpot", 1 / per_token[per_token > 0]),
        *_spread("e2e_latency", "s", "t_N − t_0", times.e2e),
        *_spread("input_throughput", "tok/s", "P ÷ TTFT", times.prompt / times.ttft),
    )


def _repeated(name: str, formula: str, rates: Values) -> tuple[Quantity, ...]:
    mean = float(rates.mean()) if rates.size else None
    spread = float(rates.std(ddof=1)) if rates.size > 1 else None
    return (
        Quantity(name, mean, "t/s", f"mean of {formula}"),
        Quantity(f"{name} ±", spread, "t/s", "standard deviation of the same"),
    )


def _optimum(times: RequestTimes) -> tuple[Quantity, ...]:
    prefill, generate = float(times.ttft.mean()), float(times.e2e.mean())
    decode = generate - prefill
    tokens = float(times.output.mean()) - 1
    return (
        Quantity("prefill.latency", prefill, "s", "mean TTFT"),
        Quantity("prefill.throughput", 1 / prefill if prefill > 0 else None, "samples/s", "batch ÷ prefill.latency"),
        Quantity("generate.latency", generate, "s", "mean E2E"),
        Quantity("decode.latency", decode, "s", "generate.latency − prefill.latency"),
        Quantity(
            "decode.throughput",
            tokens / decode if decode > 0 else None,
            "tokens/s",
            "(N − 1) · batch ÷ decode.latency",
        ),
    )


OTHER_TOOLS: Final[Mapping[str, OtherTool]] = {
    each.tool: each
    for each in (
        OtherTool(
            "vllm",
            "vllm bench sends requests concurrently, and by default measures its prefix cache; these ran one at a"
            " time.",
            "vllm bench by default measures its prefix cache too, and counts ramp and tail, as is done here.",
            _vllm,
        ),
        OtherTool(
            "guidellm",
            "guidellm measures at a server's client, network and scheduling included.",
            "guidellm measures at a server's client, network included, and counts ramp and tail unless it is told to"
            " leave them out.",
            _guidellm,
        ),
        OtherTool(
            "aiperf",
            "aiperf measures at a server's client, by chunks of a response.",
            "aiperf measures at a server's client, by chunks of a response, and counts ramp and tail, as is done here.",
            _aiperf,
        ),
        OtherTool(
            "genai-bench",
            "genai-bench measures at a server's client with its tokeniser's counts, and leaves out responses of over"
            " 1,000 tokens/s.",
            "genai-bench measures at a server's client with its tokeniser's counts, leaves out responses of over 1,000"
            " tokens/s, and ramp and tail only if it is told to.",
            _genai_bench,
        ),
        OtherTool(
            "llama-bench",
            "llama-bench excludes tokenising and sampling and generates from an empty context; here sampling counts,"
            " and the prompt in the KV cache.",
            "llama-bench runs one sequence alone: pp and tg are each response's own. S_PP, S_TG and S of a batch are"
            " llama-batched-bench's, here with sampling.",
            _llama_bench,
        ),
        OtherTool(
            "optimum-benchmark",
            "optimum-benchmark measures prefill in calls of its own; here it is the TTFT of the same call.",
            "optimum-benchmark knows static batches alone; latencies here are each response's own, and throughput is of"
            " one response.",
            _optimum,
        ),
    )
}
