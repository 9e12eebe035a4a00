"""What makes the figures of a point less reliable: flags, each a name with its cause (see flags).

Requests of one point are alike in load and length, so that what is compared between them is compared here, a point at a
time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator

import polars as pl

from sessions.disk.frame_schema import FrameRow
from sessions.frames.counting import timed_and_ended_well
from sessions.frames.flag import Flag

FEW_AT_ONCE = 0.5  # of those in flight: so few that generate at once are not the load that was asked for
STALL_S = 0.05  # how late a client may begin a request, or
STALL_SHARE = 0.02  # that share of the median time of a response, whichever is more
RATE_REACHED = 0.95
LEAST_REQUESTS = 8  # to tell a growing queue from chance


def point_flags(run: FrameRow, requests: pl.DataFrame) -> list[Flag]:
    """The flags of one point of a block: its row of the runs frame, and its requests."""
    rate, slots = run.get("rate"), run.get("concurrency") or run.get("batch") or 1
    in_loop = slots if rate is None else 1
    asked = requests.filter(~pl.col("warmup"))
    timed = asked.filter(timed_and_ended_well())
    return [
        *failed(asked, timed),
        *cached(timed, run.get("depth") or 0),
        *unfilled(timed, run.get("depth") or 0),
        *apart(run, in_loop),
        *unsteady(run, in_loop),
        *late(timed, rate),
        *behind(timed, rate),
    ]


def failed(requests: pl.DataFrame, timed: pl.DataFrame) -> Iterator[Flag]:
    if lost := len(requests) - len(timed):
        reasons = Counter(filter(None, map(_reason, requests["missing"])))
        why = f": {reasons.most_common(1)[0][0]}" if reasons else ""
        yield Flag("requests failed", f"{lost} of {len(requests)} timed requests did not complete{why}")


def _reason(missing: str | None) -> str | None:
    """Why a request ended in an error, where that was its own."""
    said = json.loads(missing or "{}").get("finish_reason")
    return said if isinstance(said, str) else None


def cached(timed: pl.DataFrame, depth: int) -> Iterator[Flag]:
    """Prompt tokens from a prefix cache beyond those that were to be there."""
    beyond = timed.select(
        (pl.col("cached_prompt_tokens") - depth).clip(0).alias("cached"),
        (pl.col("prompt_tokens") - depth).clip(0).alias("of"),
    ).filter(pl.col("cached").is_not_null())
    hit, of = int(beyond["cached"].sum()), int(beyond["of"].sum())
    if hit and of:
        hits = beyond.filter(pl.col("cached") > 0).height
        yield Flag(
            "prompt from a prefix cache",
            f"{100 * hit / of:.0f} % of the prompt tokens, in {hits} of {len(timed)} timed requests",
        )


def unfilled(timed: pl.DataFrame, depth: int) -> Iterator[Flag]:
    """Fewer tokens in the cache before a request than were to be there."""
    short = timed.filter(pl.col("cached_prompt_tokens") < depth)
    if len(short):
        least = int(short["cached_prompt_tokens"].min())  # type: ignore[arg-type]
        yield Flag(
            "cache not filled", f"{len(short)} of {len(timed)} timed requests began with {least} of {depth} tokens"
        )


def apart(run: FrameRow, slots: int) -> Iterator[Flag]:
    """Requests that are in flight together and yet generate one after another, or a few at once."""
    most = run.get("most_decoding")
    if slots < 2 or most is None or (most > 1 and most >= FEW_AT_ONCE * slots):
        return
    name = "requests did not overlap" if most <= 1 else "fewer requests at once"
    yield Flag(name, f"of {slots} in flight at most {most} were generating at once")


def unsteady(run: FrameRow, slots: int) -> Iterator[Flag]:
    """Fewer requests within the steady part than are in flight, or none."""
    within = run.get("steady_requests")
    if within is None or within >= slots:
        return
    told = "no request ran" if not within else f"only {within} request{'s' if within > 1 else ''} ran"
    yield Flag("steady part too short", f"{told} with {slots} in flight from beginning to end")


def late(timed: pl.DataFrame, rate: float | None) -> Iterable[Flag]:
    """A client that begins requests of an open loop later than they were scheduled."""
    if rate is None or timed.is_empty():
        return
    by_s = ((timed["start_ns"] - timed["scheduled_ns"]) * 1e-9).drop_nulls()
    usual_s = float(timed["e2e_s"].median() or 0.0)  # type: ignore[arg-type]
    held = by_s.filter(by_s > max(STALL_S, STALL_SHARE * usual_s))
    if len(held):
        yield Flag(
            "client stalled",
            f"{len(held)} of {len(timed)} requests were sent up to {float(held.max()):.2g} s late;"  # type: ignore[arg-type]
            " latencies count from when they were scheduled",
        )


def behind(timed: pl.DataFrame, rate: float | None) -> Iterator[Flag]:
    """An open loop whose requests arrive faster than they are served: the last response comes later after the last
    request than one takes at the beginning."""
    if rate is None or len(timed) < LEAST_REQUESTS:
        return
    due = timed.select(pl.coalesce("scheduled_ns", "start_ns").alias("due"), "e2e_s", "end_ns").sort("due")
    usual_s = float(due["e2e_s"].head(max(1, len(due) // 4)).median() or 0.0)  # type: ignore[arg-type]
    first, last = due["due"][0], due["due"][-1]
    arriving_s = (last - first) * 1e-9
    serving_s = (int(due["end_ns"].max()) - first) * 1e-9 - usual_s  # type: ignore[arg-type]
    if arriving_s < RATE_REACHED * serving_s:
        served = (len(due) - 1) / serving_s
        yield Flag("rate not reached", f"{served:.3g} requests/s of {rate:g} were served: the queue grew")
