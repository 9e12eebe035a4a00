"""Which knobs are fastest for a model's matrices on this card, by timing them: of each matrix alone over all layers,
and the best few of each again within a whole step, where kernels begin before the one before them has ended.
"""

from __future__ import annotations

import time

import kasoku_resident_knobs as knobs_of

WHOLE_S = 20.0  # at most: what is left then is timed when the model is loaded next
PASSES = 3
FINAL = 3  # of a role's candidates, timed within a step


def tuned(step: object, card: str) -> dict:
    """Set the knobs of every role to the fastest; returns {role: knobs and, where it was timed now, its seconds}."""
    table = knobs_of.Table(card)
    until = time.perf_counter() + WHOLE_S
    step.halfway()
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
            table.keep(role, step.matrix(role, 0), step.knobs[role])
        said[role] = {**step.knobs[role], "seconds": seconds, "timed": len(found)}
    return said


def seconds_of_step(step: object) -> float:
    """What a step takes that chooses greedily, by kernel of it."""
    return seconds_of_launches([launch for _, launch in step.launches(step.kinds()[0])])


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
