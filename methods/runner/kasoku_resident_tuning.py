"""Which division of a step's work is fastest on this card, by timing it: all layers in one kernel, where asked for, or
a kernel for each product. Their knobs are timed for each matrix alone over all layers, and the best few of each again
within a whole step, where kernels begin before the one before them has ended.
"""

from __future__ import annotations

import time

import kasoku_resident_knobs as knobs_of
import kasoku_resident_whole as whole_of
from kasoku_cuda_driver import DriverError
from kasoku_nvrtc import CannotCompileError

WHOLE_S = 15.0  # at most: what is left then is timed when the model is loaded next
PASSES = 3
FINAL = 3  # of a role's candidates, timed within a step
MUCH_FASTER = 0.9  # of the time by default knobs: better ones are then not looked for


def tuned(step: object, card: str, with_whole: bool) -> dict:
    """Have a step work in the fastest way. Returns {role: knobs and, where it was timed now, its seconds}; under
    "whole", where `with_whole`, how the one kernel divides its work, or why it is unused.
    """
    table, until = knobs_of.Table(card), time.perf_counter() + WHOLE_S
    step.halfway()
    if not with_whole:
        return kernels_tuned(step, table, until)
    said = whole_tried(step, table)
    whole, step.whole = step.whole, None
    if whole is not None and said["seconds"] < MUCH_FASTER * seconds_by_default(step, table):
        step.whole = whole
        return {"whole": said}
    knobs = kernels_tuned(step, table, until)
    by_kernels = seconds_of_step(step)
    if whole is not None and said["seconds"] < by_kernels:
        step.whole = whole
    elif whole is not None:
        said["unused"] = "slower than a kernel for each product, %.0f µs" % (1e6 * by_kernels)
    return {**knobs, "whole": said}


def seconds_by_default(step: object, table: object) -> float:
    """What a step takes by kernels for each product with default knobs: timed once, as compiling them takes a while."""
    key = "kernels of " + whole_of.key_of(step)
    seconds = (table.kept(key) or {}).get("seconds")
    if not isinstance(seconds, float):
        seconds = seconds_of_step(step)
        table.keep(key, {"seconds": seconds})
    return seconds


def whole_tried(step: object, table: object) -> dict:
    """Give a step the one kernel with the fastest division of its work, if there is one; returns what to say of it."""
    reason = whole_of.reason_against(step)
    if reason is not None:
        return {"unused": reason}
    key, divisions = whole_of.key_of(step), whole_of.divisions(step)
    known = table.kept(key)
    known = known if known is not None and set(known) == set(divisions[0]) else None
    try:
        if known is None:
            kernels = [whole_of.Whole(step, division) for division in divisions]
            ways = [{"awaited": words} for words in whole_of.PACING["awaited"]]  # which is best depends on the splits
            step.whole = fastest(step, [kernel.paced(way) for kernel in kernels for way in ways])
            step.whole = fastest(step, [step.whole.formed(form) for form in whole_of.FORMS])
            step.whole = fastest(step, [step.whole.paced(way) for way in whole_of.ways_of_pacing()])
            table.keep(key, step.whole.division)
        else:
            step.whole = whole_of.Whole(step, known)
    except (CannotCompileError, DriverError) as error:
        step.whole = None
        return {"unused": str(error)}
    return {**step.whole.division, "seconds": seconds_of_step(step)}


def fastest(step: object, kernels: list) -> object:
    """Which of the one kernel's forms is: all are timed, and the best few once more, which decides."""
    found = []
    for place, kernel in enumerate(kernels):
        step.whole = kernel
        found.append((seconds_of_step(step), place))
    again = []
    for _, place in sorted(found)[:FINAL]:
        step.whole = kernels[place]
        again.append((seconds_of_step(step), place))
    return kernels[min(again)[1]]


def kernels_tuned(step: object, table: object, until: float) -> dict:
    """Set the knobs of every role to the fastest that is found `until` then, as `tuned`."""
    said, best = {}, {}
    for role in knobs_of.ROLES:
        matrix = step.matrix(role, 0)
        known = table.of(role, matrix)
        if known is not None:
            step.knobs[role] = said[role] = known
            continue
        found, candidates = [], knobs_of.candidates(role, matrix)
        for knobs in candidates:
            if not found or time.perf_counter() < until:
                step.knobs[role] = knobs
                found.append((seconds_of(step, role), knobs))
        found.sort(key=lambda each: each[0])
        best[role] = (found, len(found) == len(candidates))
        step.knobs[role] = found[0][1]
    for role, (found, all_were_timed) in best.items():
        in_step = []
        for seconds, knobs in found[:FINAL]:
            step.knobs[role] = knobs
            in_step.append((seconds_of_step(step), seconds, knobs))
        _, seconds, step.knobs[role] = min(in_step, key=lambda each: each[0])
        if all_were_timed:
            table.keep(knobs_of.key_of(role, step.matrix(role, 0)), step.knobs[role])
        said[role] = {**step.knobs[role], "seconds": seconds, "timed": len(found)}
    return said


def seconds_of_step(step: object) -> float:
    """What a step takes that chooses greedily."""
    launches = [launch for _, launch in step.launches(step.kinds()[0])]
    return seconds_of_launches(launches) * len(launches)


def launches_of(step: object, role: str) -> list:
    """What launches the kernel of a role in each of the layers, so that no matrix is read from a cache."""
    if role == "head":
        return [step.head_of(asked=False)]
    makes = {"qkv": step.qkv_of, "mlp": step.mlp_of}
    make = makes.get(role) or (lambda number: step.add_of(role, number))
    return [make(number) for number in range(step.shape.layers)]


def seconds_of(step: object, role: str) -> float:
    """What a kernel of the role takes on a GPU, one after another as in a graph."""
    return seconds_of_launches(launches_of(step, role))


def seconds_of_launches(launches: list) -> float:
    import torch

    launches[0]()  # compiled before it is captured
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for launch in launches:
            launch()
    best = float("inf")
    begins, ends = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(PASSES):
        begins.record()
        graph.replay()
        ends.record()
        ends.synchronize()
        best = min(best, begins.elapsed_time(ends) / 1e3 / len(launches))
    return best
