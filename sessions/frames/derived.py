"""The columns of runs and requests that follow from the other frames: latencies, limits, energy, differences, flags.

Pure: frames in, frames out. What cannot be derived is null, with the reason in `missing`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from methods.base.memory_bandwidth import MemoryBandwidth
from methods.models.config import ConfigError, read_json
from methods.models.model import Model
from sessions.disk.frame_schema import REQUESTS, RUNS, FrameRow
from sessions.disk.plan import PIPELINE, Plan
from sessions.disk.records import MachineSeen, Prepared
from sessions.frames import bandwidth_limit, config_differences, energy, flags, greedy
from sessions.frames.counting import counted_blocks, with_point
from sessions.frames.judged_block import Block
from sessions.frames.latencies import latency_percentiles
from sessions.frames.link_flags import link_flags
from sessions.frames.metrics import ITL_QUANTILES, POINT_KEY, REQUEST_KEY
from sessions.frames.point_columns import add_equal_shares, add_point_figures, add_steady_energy
from sessions.frames.point_figures import with_steady_tokens
from sessions.frames.response_tokens import ResponseTokens

Frames = dict[str, pl.DataFrame]
LongFrames = tuple[ResponseTokens, pl.LazyFrame]  # tokens and telemetry, which may not fit in memory
RunKey = tuple[str, int, int]  # method, block, attempt
ByKey = dict[tuple[object, ...], FrameRow]
Latencies = tuple[ByKey, ByKey]  # by POINT_KEY, and by method and point
NO_BANDWIDTH = "the bandwidth of this device was not measured"
NO_PASS = "the engine made no greedy pass"  # noqa: S105 - no password
PASS_ELSEWHERE = "the method's greedy pass was made in another block"  # noqa: S105 - no password


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a session besides its frames."""

    plan: Plan
    prepared: Mapping[RunKey, Prepared]  # what each attempt at a block was measured with
    machine: MachineSeen | None

    def prepared_of(self, row: FrameRow) -> Prepared | None:
        """What the block of a row of the runs frame was measured with."""
        return self.prepared.get((row["method"], row["block"], row["attempt"]))

    def sources_of(self, method: str, block: int) -> list[str]:
        """The GPUs that a block uses."""
        return self.machine.gpus[self.plan.gpus_of(method, block)] if self.machine else []


def complete(frames: Frames, context: Context, long: LongFrames | None = None) -> Frames:
    """The frames with their derived columns filled in; `long` has those that `frames` lacks."""
    tokens, telemetry = long or (ResponseTokens.of(frames["tokens"]), frames["telemetry"].lazy())
    frames = frames | {name: with_point(frames[name]) for name in ("runs", "requests")}
    counted = counted_blocks(frames["runs"]).select(POINT_KEY)
    requests, latencies = _with_latencies(frames["requests"], tokens, counted)
    requests = with_steady_tokens(requests, tokens)
    requests = _with_energy(requests, telemetry, context)
    rows = _run_rows(frames["runs"], latencies)
    add_point_figures(rows, requests, load=context.plan.has_load)
    if context.plan.has_load:
        add_equal_shares(rows, requests, tokens, greedy=context.plan.sampling.temperature == 0)
    _describe(rows, context)
    outliers: dict[tuple[Any, ...], str] = {}
    lengths: list[list[int]] = []
    for row in rows:  # one after another: the telemetry of all blocks may not fit in memory
        block = _block(row, rows, requests, telemetry, context)
        _limit(row, block, context)
        _power(row, block)
        if context.plan.has_load:
            add_steady_energy(row, block.telemetry, block.sources)
        linked = link_flags(context.machine, block.sources, row["environment"])
        row["flags"] = [*row["flags"], *map(str, (*flags.block_flags(block), *linked))]
        found = flags.outliers(block)
        if found:
            row["flags"].append(str(flags.several(found, len(block.timed()))))
        for request, flag in found.items():
            outliers[(*(row[name] for name in POINT_KEY), request)] = str(flag)
        lengths.append(block.timed()["output_tokens"].to_list())
    _differences(rows)
    config_differences.flag(rows, [method.name for method in context.plan.methods])
    if context.plan.sampling.stop_at_eos:
        _lengths_beside(rows, lengths, set(counted.iter_rows()))
    for row in rows:
        row["flags"] = sorted(set(row["flags"]))
        row["missing"] = json.dumps(row["missing"], ensure_ascii=False)
    keys = requests.select(*POINT_KEY, "request").iter_rows()
    flagged = [[outliers[key]] if key in outliers else [] for key in keys]
    return frames | {
        "runs": pl.DataFrame(rows, schema=RUNS),
        "requests": requests.with_columns(pl.Series("flags", flagged, dtype=pl.List(pl.String))).select(list(REQUESTS)),
    }


def prompt_digest(prompts: Sequence[Sequence[int]]) -> str:
    """SHA-256 over the prompts' token IDs: tells whether two sessions used identical prompts."""
    return hashlib.sha256(json.dumps([list(prompt) for prompt in prompts]).encode()).hexdigest()


def _digest_of(prepared: Prepared) -> str:
    """That of the prompts' IDs; of their text, where a server's own model makes the IDs."""
    text = prepared.prompt_text or ""
    return prompt_digest(prepared.prompts if any(prepared.prompts) else [list(text.encode(errors="replace"))])


def _with_latencies(
    requests: pl.DataFrame, tokens: ResponseTokens, counted: pl.DataFrame
) -> tuple[pl.DataFrame, Latencies]:
    own, blocks, methods = latency_percentiles(tokens, requests, counted)
    without = requests.drop("itl_s_p50", "itl_s_p99", strict=False)
    joined = without.join(own, on=REQUEST_KEY, how="left", maintain_order="left")
    by_block: ByKey = {tuple(row[name] for name in POINT_KEY): row for row in blocks.iter_rows(named=True)}
    by_method: ByKey = {(row["method"], row["point"]): row for row in methods.iter_rows(named=True)}
    return joined.select(list(REQUESTS)), (by_block, by_method)


def _with_energy(requests: pl.DataFrame, telemetry: pl.LazyFrame, context: Context) -> pl.DataFrame:
    """A request's energy in joules, if it lasted long enough for the counter."""
    if context.machine is None or not context.machine.gpus or requests.is_empty():
        return requests
    spans = [
        (start, end) if start is not None and end is not None else (0, 0)
        for start, end in requests.select("start_ns", "end_ns").iter_rows()
    ]
    joules: list[float | None] = [None] * len(spans)
    for stretch in requests["stretch"].unique():
        own = telemetry.filter(pl.col("stretch") == stretch, pl.col("metric") == "energy_j").collect()
        by_sources: dict[tuple[str, ...], list[int]] = {}
        rows = requests.with_row_index("place").filter(pl.col("stretch") == stretch)
        for place, method, block in rows.select("place", "method", "block").iter_rows():
            by_sources.setdefault(tuple(context.sources_of(method, block)), []).append(place)
        for sources, places in by_sources.items():
            found = energy.counter_difference(own, sources, [spans[place] for place in places])
            for place, value in zip(places, found, strict=True):
                joules[place] = value
    missing = []
    for text, value, (start, end) in zip(requests["missing"].to_list(), joules, spans, strict=True):
        reasons = json.loads(text or "{}")
        reasons.pop("energy_j", None)
        if value is None:
            lasted = (end - start) / 1e9
            short = f"it lasted {lasted:.1f} s; the energy counter needs {energy.LEAST_S:g} s or more"
            reasons["energy_j"] = short if lasted < energy.LEAST_S else "the energy counter was not read around it"
        missing.append(json.dumps(reasons, ensure_ascii=False))
    return requests.with_columns(
        pl.Series("energy_j", joules, dtype=pl.Float64), pl.Series("missing", missing, dtype=pl.String)
    )


def _run_rows(runs: pl.DataFrame, latencies: Latencies) -> list[FrameRow]:
    blocks, methods = latencies
    rows = runs.to_dicts()
    for row in rows:
        row["missing"] = json.loads(row["missing"] or "{}")
        row["flags"] = list(row["flags"] or [])
        block = blocks.get(tuple(row[name] for name in POINT_KEY), {})
        method = methods.get((row["method"], row["point"]), {})
        for name in ITL_QUANTILES:
            row[name], row[f"method_{name}"] = block.get(name), method.get(name)
            if row[name] is None and name != "itl_s_p90":  # for the same reason
                row["missing"].setdefault(name, "no response of this block has at least two tokens")
    return rows


def _describe(rows: list[FrameRow], context: Context) -> None:
    prompts = {id(each): _digest_of(each) for each in context.prepared.values()}
    for row in rows:
        prepared = context.prepared_of(row)
        if prepared is not None:
            row["weights_digest"] = prepared.model.weights_digest or None
            row["prompt_digest"] = prompts[id(prepared)]


def _block(
    row: FrameRow, rows: list[FrameRow], requests: pl.DataFrame, telemetry: pl.LazyFrame, context: Context
) -> Block:
    begin, end, stretch = row["started_ns"], row["ended_ns"], row["stretch"]
    before = [other["ended_ns"] for other in rows if other["ended_ns"] is not None and other["stretch"] == stretch]
    ended = [ended_ns for ended_ns in before if ended_ns <= begin]
    own = requests.filter(*(pl.col(name) == row[name] for name in POINT_KEY))
    until = end if end is not None else 2**63 - 1
    around = telemetry.filter(pl.col("stretch") == stretch, pl.col("t_ns").is_between(begin - 3_000_000_000, until))
    return Block(
        run=row,
        requests=own,
        telemetry=around.collect(),
        plan=context.plan,
        sources=context.sources_of(row["method"], row["block"]),
        cores=context.machine.machine.cores_logical if context.machine else None,
        before_ns=max(ended, default=None),
    )


def _with_all_heads(block: Block) -> int:
    """How many GPUs each layer's heads are on: all of the block's, but in a pipeline or one process with them all."""
    method = next((each for each in block.plan.methods if each.name == block.run.get("method")), None)
    apart = method is not None and (method.split == PIPELINE or method.one_process)
    return 1 if apart else max(1, len(block.sources))


def _limit(row: FrameRow, block: Block, context: Context) -> None:
    """bytes_per_token, bandwidth_bytes_s and dram_active_percent."""
    missing, timed = row["missing"], block.timed()
    prepared = context.prepared_of(row)
    if prepared is None or timed.is_empty():
        missing["bytes_per_token"] = "nothing was timed in this block"  # noqa: S105 - no password
    else:
        model = prepared.model
        length = float((timed["prompt_tokens"] + timed["output_tokens"] / 2).mean() or 0)  # type: ignore[arg-type]
        found = bandwidth_limit.bytes_per_token(
            model,
            _config(model),
            row["dtype"] or context.plan.dtype,
            row["weights_bytes"],
            length,
            config_differences.resolved_config(row),
            block.evidence(),
            _with_all_heads(block),
        )
        row["bytes_per_token"] = found.total
        row["bytes_per_step"] = found.of_step(row["decoding"])
        if found.total is None:
            missing["bytes_per_token"] = found.reason
    measured = prepared.bandwidth if prepared else MemoryBandwidth()
    rates = [rate for rate in (measured.read_bytes_s, measured.copy_bytes_s) if rate is not None]
    # of all the session's GPUs together, of which the method has its share
    share = len(block.sources) / measured.devices if block.sources and measured.devices else 1.0
    row["bandwidth_bytes_s"] = max(rates) * share if rates else None
    if row["bandwidth_bytes_s"] is None:
        missing["bandwidth_bytes_s"] = measured.reason or NO_BANDWIDTH
    active = block.window().filter(
        pl.col("source").is_in(list(block.sources)), pl.col("metric") == "dram_active_percent"
    )
    whole = active.filter(pl.int_range(pl.len()).over("source") > 0)  # the first one is of the time before as well
    row["dram_active_percent"] = whole["value"].mean()
    if row["dram_active_percent"] is None:
        missing["dram_active_percent"] = (
            "no GPU was used" if not block.sources else "this GPU does not report it, or too rarely for this block"
        )


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _config(model: Model) -> Mapping[str, object] | None:
    try:
        return read_json(model.folder / "config.json")
    except ConfigError:
        return None


def _power(row: FrameRow, block: Block) -> None:
    if row["ended_ns"] is None or not block.sources:
        row["missing"]["power_integral_j"] = "no GPU was used" if not block.sources else "the block did not end"
        return
    row["power_integral_j"] = energy.power_integral(block.telemetry, block.sources, row["started_ns"], row["ended_ns"])
    if row["power_integral_j"] is None:
        row["missing"]["power_integral_j"] = "power was not sampled throughout the block"


def _differences(rows: list[FrameRow]) -> None:
    """Each block's greedy pass against its reference's first one."""
    passes = {(row["method"], row["block"], row["attempt"]): greedy.greedy_pass(row["evidence"]) for row in rows}
    first: dict[str, greedy.GreedyPass] = {}
    for row in sorted(rows, key=lambda row: (row["block"], row["attempt"])):
        made = passes[(row["method"], row["block"], row["attempt"])]
        if made is not None and made.ids:
            first.setdefault(row["method"], made)
    for row in rows:
        own, reference = passes[(row["method"], row["block"], row["attempt"])], first.get(row["reference"] or "")
        if own is None or not own.ids:
            elsewhere = PASS_ELSEWHERE if row["method"] in first else NO_PASS
            row["missing"]["first_difference"] = own.reason if own and own.reason else elsewhere
            continue
        if row["reference"] is None:
            row["missing"]["first_difference"] = "it is the reference"
            continue
        if reference is None:
            row["missing"]["first_difference"] = f"{row['reference']} made no greedy pass in this session"
            continue
        found = greedy.difference(own, reference, row["dtype"] or "")
        row["first_difference"], row["equal_tokens_share"] = found.first, found.share
        row["difference_margin"], row["difference"] = found.margin, found.sentence
        if found.first is None:
            row["missing"]["first_difference"] = "none: all greedy tokens are equal"


def _lengths_beside(rows: list[FrameRow], of_rows: list[list[int]], counted: set[tuple[Any, ...]]) -> None:
    """Where responses end at EOS: a method's lengths against its reference's."""
    lengths: dict[tuple[str, str], list[int]] = {}
    pairs = [
        (row, own) for row, own in zip(rows, of_rows, strict=True) if tuple(row[name] for name in POINT_KEY) in counted
    ]
    for row, own in pairs:
        lengths.setdefault((row["method"], row["point"]), []).extend(own)
    for row, _ in pairs:
        reference = row["reference"]
        if reference:
            own, beside = lengths[row["method"], row["point"]], lengths.get((reference, row["point"]), [])
            row["flags"] += map(str, flags.lengths_beside(own, beside, reference))
