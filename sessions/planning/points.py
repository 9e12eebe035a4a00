"""The points of a load: every combination of the lists that were asked for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Final, TypeVar

from sessions.disk.loads import Loads
from sessions.disk.option_table import Value, table
from sessions.disk.options import RunOptions
from sessions.disk.point import PLAIN, Point
from sessions.planning.wanted import PlanError

Number = TypeVar("Number", int, float)

MOST_POINTS: Final = 200
ARRIVALS: Final = ("batch", "concurrency", "rate")
EACH: Final = 10  # timed requests of a block, for each in flight, where their number is not said
LEAST: Final = 16  # requests of a point, where there are EACH or more for each in flight
SLOT_S: Final = 2.0  # an open loop goes on for so long for each of the requests that a closed loop has in a slot
ASSUMED_TOK_S: Final = 50.0  # of one response, for an estimate before anything was measured
LISTS: Final = {option.name: option for option in table(Loads)}


def with_loads(options: RunOptions, said: Mapping[str, Value]) -> RunOptions:
    """The options, with the lengths and numbers that the lists imply. Raises PlanError where they contradict others."""
    loads = options.loads
    arrivals = [name for name in ARRIVALS if name in said]
    if len(arrivals) > 1:
        raise PlanError(f"--{arrivals[0]} and --{arrivals[1]} exclude each other: measure one, then the other.")
    if arrivals:  # a preset's own way does not go with another
        batch, concurrency, rate = (getattr(loads, name) if name in said else None for name in ARRIVALS)
        loads = dataclasses.replace(loads, batch=batch, concurrency=concurrency, rate=rate)
    if "prompt" in said or ("prompt_tokens" in said and "isl" not in said):
        if "isl" in said:
            raise PlanError("--prompt and --isl exclude each other: give either the text or its length.")
        loads = dataclasses.replace(loads, isl=None)
    if "max_new_tokens" in said and "osl" not in said:
        loads = dataclasses.replace(loads, osl=None)
    if loads.burstiness is not None and loads.rate is None:
        raise PlanError("--burstiness goes with --rate: say how many requests arrive a second, as in --rate 2.")
    if "slo" in said and not is_asked(loads):
        raise PlanError("--slo goes with a load: say which, as in --concurrency 1,4,16.")
    options = dataclasses.replace(options, loads=loads)
    if loads.isl is not None:
        longest = _of_lengths("isl", "prompt_tokens", loads.isl, said)
        options = dataclasses.replace(options, prompt_tokens=longest, prompt=None)
    if loads.osl is not None:
        longest = _of_lengths("osl", "max_new_tokens", loads.osl, said)
        options = dataclasses.replace(options, sampling=dataclasses.replace(options.sampling, max_new_tokens=longest))
    if is_asked(loads) and "requests" not in said:
        options = dataclasses.replace(options, requests=EACH * options.blocks)
    return options


def is_asked(loads: Loads) -> bool:
    """Whether more is asked for than lengths of one size: then a point has requests for each that is in flight."""
    return any(getattr(loads, name) is not None for name in (*ARRIVALS, "depth")) or len(_shapes(loads)) > 1


def points_of(options: RunOptions, methods: int) -> list[Point]:
    """The points, the primary one first. Raises PlanError where there are too many."""
    loads = options.loads
    if not is_asked(loads):
        return [PLAIN]
    way = next((name for name in ARRIVALS if getattr(loads, name) is not None), None)
    arrivals: Sequence[Point] = [PLAIN] if way is None else _ways(loads, way)
    shapes = _shapes(loads)
    depths = _numbers(loads, "depth", int) or [0]
    count = len(arrivals) * len(shapes) * len(depths)
    if count > MOST_POINTS:
        raise PlanError(_too_many(options, count, methods))
    points = []
    for (isl, osl), depth, arrival in product(shapes, depths, arrivals):
        lengths = f"{isl or 'prompt'}/{osl or options.sampling.max_new_tokens}" if len(shapes) > 1 else ""
        parts = [lengths, f"d{depth}" if depth else "", arrival.name if way is not None else ""]
        name = " ".join(part for part in parts if part) or PLAIN.name
        points.append(
            dataclasses.replace(
                arrival,
                name=name,
                isl=isl,
                osl=osl,
                depth=depth,
                requests=_requests(options, arrival),
                warmup=options.warmup * (arrival.in_flight or 1),
            )
        )
    return points


def _of_lengths(name: str, plain: str, value: str, said: Mapping[str, Value]) -> int:
    longest = int(max(LISTS[name].numbers(value)))
    if said.get(plain, longest) != longest:
        flag = f"--{plain.replace('_', '-')}"
        raise PlanError(f"{flag} {said[plain]} and --{name} {value} contradict each other: leave the first out.")
    return longest


def _ways(loads: Loads, way: str) -> list[Point]:
    if way == "batch":
        return [Point(name=f"batch {number}", batch=number) for number in _numbers(loads, way, int)]
    if way == "concurrency":
        return [Point(name=f"c{number}", concurrency=number) for number in _numbers(loads, way, int)]
    shapes = _numbers(loads, "burstiness", float) or [1.0]
    return [
        Point(name=f"rate {rate:g}" + (f" b{shape:g}" if shape != 1 else ""), rate=rate, burstiness=shape)
        for rate, shape in product(_numbers(loads, way, float), shapes)
    ]


def _shapes(loads: Loads) -> list[tuple[int | None, int | None]]:
    """The pairs of lengths: two lists of one size pair up, a single length goes with each of the other list."""
    prompts: list[int | None] = [*_numbers(loads, "isl", int)] or [None]
    news: list[int | None] = [*_numbers(loads, "osl", int)] or [None]
    if 1 not in (len(prompts), len(news)) and len(prompts) != len(news):
        raise PlanError(
            f"--isl has {len(prompts)} lengths and --osl {len(news)}: they pair up, so give as many of each, or one."
        )
    size = max(len(prompts), len(news))
    return list(zip(prompts * (size // len(prompts)), news * (size // len(news)), strict=True))


def _numbers(loads: Loads, name: str, kind: Callable[[float], Number]) -> list[Number]:
    text = getattr(loads, name)
    return [] if text is None else [kind(number) for number in LISTS[name].numbers(text)]


def _requests(options: RunOptions, arrival: Point) -> int:
    """The timed requests of a block: so many for each in flight, or in an open loop for as long as is useful."""
    each = math.ceil(options.requests / options.blocks)
    least = LEAST if each >= EACH else 1
    if arrival.rate is not None:
        return max(least, each, math.ceil(each * SLOT_S * arrival.rate))
    in_flight = arrival.in_flight or 1
    return math.ceil(max(least, each * in_flight) / in_flight) * in_flight


def _too_many(options: RunOptions, count: int, methods: int) -> str:
    each_s = options.requests / options.blocks * options.sampling.max_new_tokens / ASSUMED_TOK_S
    hours = count * options.blocks * methods * each_s / 3600
    long = (
        f"{hours / 8766:,.0f} years"
        if hours > 17_532
        else f"{hours / 24:,.0f} days"
        if hours > 48
        else f"{hours:.0f} h"
    )
    return (
        f"The lists make {count:,} points, some {long} at {ASSUMED_TOK_S:g} tokens/s a response; {MOST_POINTS} at most:"
        " shorten them."
    )
