"""Which knobs are fastest for a model's matrices on this card, by timing them once each over all layers."""

from __future__ import annotations

import time

import kasoku_resident_knobs as knobs_of

WHOLE_S = 20.0  # at most: what is left then is timed when the model is loaded next
PASSES = 3


def tuned(step: object, card: str) -> dict:
    """Set the knobs of every role to the fastest; returns {role: knobs and, where it was timed now, its seconds}."""
    table = knobs_of.Table(card)
    until = time.perf_counter() + WHOLE_S
    said = {}
    for role in knobs_of.ROLES:
        matrix = step.matrix(role, 0)
        known = table.of(role, matrix)
        if known is not None:
            step.knobs[role] = known
            said[role] = known
            continue
        found, candidates = [], knobs_of.candidates(matrix)
        for knobs in candidates:
            if not found or time.perf_counter() < until:
                step.knobs[role] = knobs
                found.append((seconds_of(step, role), knobs))
        seconds, step.knobs[role] = min(found, key=lambda each: each[0])
        if len(found) == len(candidates):
            table.keep(role, matrix, step.knobs[role])
        said[role] = {**step.knobs[role], "seconds": seconds, "timed": len(found)}
    if step.pdl and time.perf_counter() < until:
        said[knobs_of.AHEAD] = _tuned_ahead(step, table)
    return said


def _tuned_ahead(step: object, table: object) -> dict:
    """Set how much attention has fetched ahead, by timing all layers: it is the next kernel that gains."""
    attention, matrix = step.knobs["attention"], step.matrix("mlp", 0)
    known = table.of(knobs_of.AHEAD, matrix)
    if known is None:
        found = []
        for mib in (each for each in knobs_of.AHEAD_MIB if each << 20 <= matrix.nbytes()):
            attention[knobs_of.AHEAD] = mib
            launches = [launch for number in range(step.shape.layers) for _, launch in step.of_layer(number)]
            found.append((seconds_of_launches(launches), mib))
        known = {knobs_of.AHEAD: min(found)[1]}
        table.keep(knobs_of.AHEAD, matrix, known)
    attention.update(known)
    return known


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
