"""What makes a figure less reliable: flags, each a name with its cause, computed from a session's frames.

A flag is written `name: cause`. Nothing is excluded because of one; it is shown next to the figure.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import polars as pl

from probes.gpu.throttle import slows, throttle_words
from sessions.disk.frame_schema import FrameRow
from sessions.disk.plan import Plan
from sessions.disk.sampling import Sampling
from sessions.frames.flag import Flag
from sessions.frames.judged_block import Block
from sessions.frames.load_flags import point_flags
from sessions.frames.weights_flags import weights_flags

DRIFT: Final = 0.03  # between the first and the last third of a block's requests
DRIFT_ERRORS: Final = 3.0  # and so many standard errors of that difference
UNSETTLED: Final = 0.10  # by how much the first timed request is slower than the median of the others
THROTTLED: Final = 0.05  # share of the samples in the timed part
BUSY_ON_CPU: Final = 0.10  # cores' worth of other work per core, where the CPU is what is measured
BUSY_BESIDE_GPU: Final = 0.50
GAP_S: Final = 1.0
GPU_METRICS: Final = ("utilisation_percent", "memory_used_bytes", "power_w", "sm_clock_mhz", "throttle_reasons")
COUNTED_NS: Final = 1_500_000_000  # a GPU's processes are counted once a second
ENERGY: Final = 0.05
OUTLIER: Final = 0.10  # and OUTLIER_MADS median absolute deviations from the block's median
OUTLIER_MADS: Final = 5.0
SLOWER_CLOCK: Final = 0.03


def block_flags(block: Block) -> list[Flag]:
    """The flags of one block, judged on its own."""
    timed, load = block.timed(), block.plan.has_load
    rates = block.steady()["e2e_tok_s"].to_list()
    window = block.window()
    return [
        *not_fresh(block),
        *not_in_effect(block.run),
        *other_dtype(block.run, block.plan),
        *weights_flags(block.run, block.resolved()),
        *other_lengths(timed, block.sampling),
        *(point_flags(block.run, block.requests) if load else prefix_cache(timed, block.evidence())),
        *recompiled(block.evidence()),
        *other_sampling(block.resolved(), block.evidence(), block.plan.sampling),
        *incomparable(block.evidence()),
        *unsettled(rates),
        *drifted(rates),
        *throttled(window, block.sources),
        *(() if block.is_fresh() and not block.is_told_apart() else gpu_shared(block)),
        *(cpu_shared(window, block.cores, on_cpu=not block.sources) if block.is_told_apart() else ()),
        *telemetry_gaps(window, timed),
        *gpu_gaps(window, block.sources, timed),
        *energy_disagrees(block.run),
    ]


def not_fresh(block: Block) -> Iterable[Flag]:
    if not block.is_fresh():
        yield Flag("not fresh", "a server that Kasoku did not start, one process for all blocks")
    elif not block.is_told_apart():
        container = block.container()
        why = f": {container.unseen}" if container is not None and container.unseen else ""
        yield Flag("in a container", f"its use of CPU and GPU is not told from that of other processes{why}")


def not_in_effect(run: FrameRow) -> Iterable[Flag]:
    if run.get("in_effect") is False:
        yield Flag("method not in effect", str(run.get("in_effect_reason") or "its evidence does not show it"))


def other_dtype(run: FrameRow, plan: Plan) -> Iterable[Flag]:
    loaded = run.get("dtype")
    if loaded and loaded != plan.dtype:
        yield Flag("other dtype", f"the weights were loaded as {loaded}, not {plan.dtype}")


def other_lengths(timed: pl.DataFrame, sampling: Sampling) -> Iterable[Flag]:
    """Responses whose length differs from the plan's fixed length."""
    if sampling.stop_at_eos:
        return
    lengths = [count for count in timed["output_tokens"].to_list() if count != sampling.max_new_tokens]
    if lengths:
        spread = f"{min(lengths)}" if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)}"
        yield Flag(
            "output lengths differ",
            f"{len(lengths)} of {len(timed)} timed responses have {spread} tokens, not {sampling.max_new_tokens}",
        )


def lengths_beside(own: Sequence[int], reference: Sequence[int], name: str) -> Iterable[Flag]:
    """Mean lengths of a method and its reference that differ by over 1 %, as when responses end at EOS."""
    if not own or not reference:
        return
    mean, base = statistics.fmean(own), statistics.fmean(reference)
    if base > 0 and abs(mean / base - 1) > 0.01:
        yield Flag("output lengths differ", f"{mean:.1f} tokens per response on average, {base:.1f} for {name}")


def prefix_cache(timed: pl.DataFrame, evidence: Mapping[str, object]) -> Iterable[Flag]:
    cached = timed.filter(pl.col("cached_prompt_tokens") > 0)
    if len(cached):
        most, of = max(cached["cached_prompt_tokens"].to_list()), max(cached["prompt_tokens"].to_list())
        cause = f"up to {most} of {of} prompt tokens in {len(cached)} of {len(timed)} timed requests"
        yield Flag("prompt from a prefix cache", cause)
    elif (count := _finite(evidence.get("cached_prompt_tokens"))) and count > 0:
        yield Flag("prompt from a prefix cache", f"the engine reused {count:.0f} prompt tokens of earlier requests")


def recompiled(evidence: Mapping[str, object]) -> Iterable[Flag]:
    count = _finite(evidence.get("recompiles_timed"))
    if count and count > 0:
        yield Flag("recompilation in the timed part", f"{count:.0f} frame{'s' if count > 1 else ''} recompiled")


def other_sampling(resolved: Mapping[str, object], evidence: Mapping[str, object], asked: Sampling) -> Iterable[Flag]:
    """The parameters the engine resolved, and the choice seen in the profiled step, against those requested."""
    taken = resolved.get("sampling")
    said = dict(taken) if isinstance(taken, Mapping) else {}
    greedy = asked.temperature == 0
    wrong = []
    if isinstance(said.get("do_sample"), bool) and said["do_sample"] == greedy:
        wrong.append(f"do_sample is {said['do_sample']}")
    compared = {"repetition_penalty": asked.repetition_penalty, "max_new_tokens": asked.max_new_tokens}
    if not greedy:
        compared |= {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k}
    for name, wanted in compared.items():
        value = _finite(said.get(name))
        if value is not None and not math.isclose(value, wanted, rel_tol=1e-6) and not _means_off(name, value, wanted):
            wrong.append(f"{name} is {value:g}, not {wanted:g}")
    seen = evidence.get("sampling")
    choice = seen.get("choice") if isinstance(seen, Mapping) else None
    if choice in ("greedy", "sampled") and (choice == "greedy") != greedy:
        wrong.append(f"the profiled step chose its token {'greedily' if choice == 'greedy' else 'by sampling'}")
    if wrong:
        yield Flag("sampling parameters not as requested", "; ".join(wrong))


def _means_off(name: str, value: float, wanted: float) -> bool:
    """Engines write "no top-k" as 0 or −1."""
    return name == "top_k" and value <= 0 and wanted <= 0


def incomparable(evidence: Mapping[str, object]) -> Iterable[Flag]:
    """How a method's measurement departs from the others, as reported by its engine: the article's vLLM, say."""
    said = evidence.get("incomparable")
    causes = [cause for cause in said if isinstance(cause, str) and cause] if isinstance(said, list) else []
    if causes:
        yield Flag("incomparable", ", ".join(causes))


def unsettled(rates: Sequence[float]) -> Iterable[Flag]:
    """The first timed request slower than every other one, and far from their median."""
    if len(rates) < 3:
        return
    first, others = rates[0], rates[1:]
    middle = statistics.median(others)
    if first < min(others) and first < middle * (1 - UNSETTLED):
        slower = (1 - first / middle) * 100
        yield Flag("warm-up not settled", f"the first timed request ran {slower:.0f} % slower than the others")


def drifted(rates: Sequence[float]) -> Iterable[Flag]:
    """The mean of the last third of the requests against that of the first, in their order."""
    third = len(rates) // 3
    if third < 2:
        return
    first, last = rates[:third], rates[-third:]
    change = statistics.fmean(last) / statistics.fmean(first) - 1
    error = math.sqrt((statistics.variance(first) + statistics.variance(last)) / third) / statistics.fmean(first)
    if abs(change) > DRIFT and abs(change) > DRIFT_ERRORS * error:
        way = "faster" if change > 0 else "slower"
        yield Flag("drift", f"the last third of the requests ran {abs(change) * 100:.1f} % {way} than the first")


def throttled(window: pl.DataFrame, sources: Sequence[str]) -> Iterable[Flag]:
    for source in sources:
        masks = _values(window, source, "throttle_reasons")
        held = [mask for mask in masks if slows(mask)]
        if masks and len(held) / len(masks) > THROTTLED:
            words = sorted({word for mask in held for word in throttle_words(mask) if word != "idle"})
            share = len(held) / len(masks) * 100
            yield Flag("clocks throttled", f"{', '.join(words)} in {share:.0f} % of the samples of {source}")


def gpu_shared(block: Block) -> Iterable[Flag]:
    """Compute processes that are not the block's: there before its own could be, whose first second goes into imports,
    or come by the end of its timed part."""
    begun = block.run.get("started_ns")
    for source in block.sources:
        most = 0.0
        if begun is not None:
            since = max(begun - 2_000_000_000, block.before_ns or 0)
            around = block.telemetry.filter(pl.col("t_ns").is_between(since, begun + 500_000_000))
            counts = _values(around, source, "foreign_processes") or _values(around, source, "processes")
            most = max(counts, default=0.0)
        cause = f"{_processes(most)} on {source} before the block's own" if most >= 1 else _came(block, source)
        if cause:
            yield Flag("another process on the GPU", cause)


def _came(block: Block, source: str) -> str:
    """What joined the GPU: processes known to be foreign, else more than at the start of the timed part."""
    window = block.window()
    if window.is_empty():
        return ""
    foreign = _values(window, source, "foreign_processes")
    if foreign:
        most = max(foreign)
        return f"{_processes(most)} of other programs on {source} during the timed part" if most >= 1 else ""
    begun: Any = window["t_ns"].min()
    counts = _values(window, source, "processes")
    before = _values(block.telemetry.filter(pl.col("t_ns").is_between(begun - COUNTED_NS, begun)), source, "processes")
    first = (before[-1:] or counts[:1] or [0.0])[0]
    more = max(counts, default=0.0) - first
    return f"{_processes(more)} more on {source} than at the start of the timed part" if more >= 1 else ""


def _processes(count: float) -> str:
    return f"{count:.0f} compute process{'es' if count > 1 else ''}"


def cpu_shared(window: pl.DataFrame, cores: int | None, on_cpu: bool) -> Iterable[Flag]:
    """CPU time of the whole machine in the timed part, minus the measured process tree's."""
    host, own = _values(window, "host", "cpu_percent"), _values(window, "runner", "cpu_percent")
    if not host or not own or not cores:
        return
    busy = statistics.fmean(host) / 100 * cores - statistics.fmean(own) / 100
    if busy / cores > (BUSY_ON_CPU if on_cpu else BUSY_BESIDE_GPU):
        yield Flag("CPU contention", f"other processes used {busy:.1f} of {cores} cores during the timed part")


def telemetry_gaps(window: pl.DataFrame, timed: pl.DataFrame) -> Iterable[Flag]:
    """Nothing sampled for over a second within the timed part."""
    longest = _longest_gap_s(window, timed)
    if longest > GAP_S:
        yield Flag("telemetry gaps", f"nothing was sampled for {longest:.1f} s of the timed part")


def gpu_gaps(window: pl.DataFrame, sources: Sequence[str], timed: pl.DataFrame) -> Iterable[Flag]:
    """Metrics that a GPU, asked several times a second, did not report for over a second of the timed part, and why."""
    for source in sources:
        longest, silent, reason = 0.0, [], ""
        for metric in GPU_METRICS:
            own = window.filter(pl.col("source") == source, pl.col("metric") == metric).sort("t_ns")
            refused = own.filter(pl.col("value").is_null())
            gap = _longest_gap_s(own.filter(pl.col("value").is_not_null()), timed)
            if len(refused) and gap > GAP_S:
                silent.append(metric)
                longest, reason = max(longest, gap), reason or str(refused["status"][-1])
        if silent:
            cause = f"{source} gave no {', '.join(silent)} for up to {longest:.1f} s of the timed part: {reason}"
            yield Flag("GPU telemetry gaps", cause)


def _longest_gap_s(samples: pl.DataFrame, timed: pl.DataFrame) -> float:
    """The longest time without a sample within the timed part, from start to end; 0 if nothing was timed."""
    if timed.is_empty():
        return 0.0
    edges = [timed["start_ns"].min(), *samples["t_ns"].unique().sort().to_list(), timed["end_ns"].max()]
    times = [int(edge) for edge in edges if edge is not None]
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0) / 1e9


def energy_disagrees(run: FrameRow) -> Iterable[Flag]:
    counted, integral = _finite(run.get("energy_j")), _finite(run.get("power_integral_j"))
    if counted and integral and abs(integral / counted - 1) > ENERGY:
        yield Flag(
            "energy readings disagree",
            f"the counter says {counted:.0f} J, the integral of the power {integral:.0f} J",
        )


def outliers(block: Block) -> dict[int, Flag]:
    """Requests far from their block's median, by number, with what differed while they ran."""
    timed = block.steady()
    rates = timed["e2e_tok_s"].to_list()
    if len(rates) < 5:
        return {}
    middle = statistics.median(rates)
    spread = statistics.median(abs(rate - middle) for rate in rates)
    window = block.window()
    found = {}
    for row in timed.select("request", "start_ns", "end_ns", "e2e_tok_s").iter_rows(named=True):
        away = row["e2e_tok_s"] / middle - 1
        if abs(away) > OUTLIER and abs(row["e2e_tok_s"] - middle) > OUTLIER_MADS * spread:
            during = window.filter(pl.col("t_ns").is_between(row["start_ns"], row["end_ns"]))
            cause = _cause(window, during, block) or "no cause visible in the telemetry"
            way = f"{abs(away) * 100:.0f} % {'faster' if away > 0 else 'slower'} than the median"
            found[row["request"]] = Flag("outlier", f"{way}; {cause}")
    return found


def several(found: Mapping[int, Flag], of: int) -> Flag:
    """One flag for a block's outliers; each request has its own."""
    number, first = next(iter(found.items()))
    return Flag("outliers", f"{len(found)} of {of} timed requests, such as request {number}: {first.cause}")


def _cause(window: pl.DataFrame, during: pl.DataFrame, block: Block) -> str:
    for source in block.sources:
        held = [word for mask in _values(during, source, "throttle_reasons") if slows(mask) for word in
                throttle_words(mask)]  # fmt: skip
        if held:
            return f"{held[0]} on {source}"
        clock, usual = _values(during, source, "sm_clock_mhz"), _values(window, source, "sm_clock_mhz")
        if clock and statistics.fmean(clock) < statistics.median(usual) * (1 - SLOWER_CLOCK):
            return f"SM clock of {source} at {statistics.fmean(clock):.0f} MHz, usually {statistics.median(usual):.0f}"
    shared = next(iter(cpu_shared(during, block.cores, on_cpu=not block.sources)), None)
    return shared.cause if shared else ""


def merged(flags: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """The flags of a method's blocks, (block, flag) each, a line per name: its first cause, and in how many blocks."""
    causes: dict[str, tuple[str, set[int]]] = {}
    for block, flag in flags:
        name, _, cause = flag.partition(": ")
        causes.setdefault(name, (cause, set()))[1].add(block)
    lines = []
    for name, (cause, blocks) in sorted(causes.items()):
        more = f" (in {len(blocks)} blocks)" if len(blocks) > 1 else ""
        lines.append(f"{Flag(name, cause)}{more}")
    return tuple(lines)


def _values(telemetry: pl.DataFrame, source: str, metric: str) -> list[float]:
    rows = telemetry.filter((pl.col("source") == source) & (pl.col("metric") == metric) & pl.col("value").is_finite())
    return rows["value"].to_list()


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
