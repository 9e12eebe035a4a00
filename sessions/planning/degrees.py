"""`--tensor-parallel` and `--pipeline-parallel`: each method of a plan at each degree, which is over how many GPUs its
engine is split.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from methods.catalogue.method import SERVER
from sessions.disk.option_table import Value, table
from sessions.disk.options import RunOptions
from sessions.disk.plan import DEGREE, PIPELINE, TENSOR, PlannedMethod
from sessions.planning.wanted import PlanError

ONE_GPU: Final = "Its engine runs on one GPU: it cannot be split over {degree}."
NO_PIPELINE: Final = "It is not measured as a pipeline over {degree} GPUs: --tensor-parallel splits it."
NO_GPUS: Final = "It cannot be split over {degree} GPUs: this session runs on the CPU."
FEW_GPUS: Final = "It cannot be split over {degree} GPUs: this session has {gpus}, and --device names more."
FEW_IN_LANE: Final = "It cannot be split over {degree} GPUs: with --spread a round has {gpus}."


@dataclass(frozen=True, slots=True)
class Way:
    """A way to split an engine: how its degrees are called, and in what they differ from the least."""

    mark: str
    differs: str


WAYS: Final[Mapping[str, Way]] = {
    TENSOR: Way("tp", "Its weights and its work are split over {degree} GPUs instead of {least}."),
    PIPELINE: Way("pp", "Its layers are on {degree} GPUs, one after another, instead of {least}."),
}
OPTIONS: Final = {option.name: option for option in table(RunOptions) if option.name in WAYS}


def degrees_of(values: Mapping[str, Value]) -> tuple[str, list[int]]:
    """The way that is said and its degrees, each once; none where no way is said, or they cannot be read.

    Raises PlanError where both ways are.
    """
    said = [name for name in WAYS if name in values]
    if len(said) > 1:
        raise PlanError("--tensor-parallel and --pipeline-parallel exclude each other: ask for one of them.")
    if not said:
        return TENSOR, []
    try:
        return said[0], [int(number) for number in OPTIONS[said[0]].numbers(str(values[said[0]]))]
    except ValueError:
        return said[0], []


def at_degrees(
    methods: Sequence[PlannedMethod],
    degrees: Sequence[int],
    gpus: int,
    lanes: int | None = None,
    way: str = TENSOR,
) -> list[PlannedMethod]:
    """Each method at each degree, compared with itself at the least of them; that one with the method's own reference,
    at the least degree too. `gpus`: how many a round has, 0 on the CPU.

    What cannot be split so is `lacking`.
    """
    names = {method.name for method in methods}
    few = (FEW_GPUS if lanes is None else FEW_IN_LANE) if gpus else NO_GPUS
    return [each for method in methods for each in _at_each(method, names, degrees, gpus, few, way)]


def _at_each(
    method: PlannedMethod, names: set[str], degrees: Sequence[int], gpus: int, few: str, way: str
) -> Iterator[PlannedMethod]:
    least = min(degrees)
    for degree in degrees:
        lacks = method.lacking or _lacking(method, degree, gpus, few, way)
        split = replace(method, name=_named(method.name, degree, way), degree=degree, split=way, lacking=lacks)
        if degree > 1 and method.engine != SERVER:  # nobody looks into a server's step
            shown = {"gpus_min": degree} if method.one_process else {"collectives_min": 1}
            split = replace(split, must_show={**method.must_show, **shown})
        if degree > least:
            differs = WAYS[way].differs.format(degree=degree, least=least)
            yield replace(split, reference=_named(method.name, least, way), differs=differs)
        elif method.reference in names:
            yield replace(split, reference=_named(str(method.reference), least, way))
        else:
            yield split


def _named(name: str, degree: int, way: str) -> str:
    return f"{name}{DEGREE}{WAYS[way].mark}{degree}"


def _lacking(method: PlannedMethod, degree: int, gpus: int, few: str, way: str) -> dict[str, str]:
    """Reason and remedy, as in a planned method; empty where nothing is in the way."""
    if degree == 1:
        return {}
    if not (method.pipeline_parallel if way == PIPELINE else method.tensor_parallel):
        reason = NO_PIPELINE if method.tensor_parallel else ONE_GPU
        return {"reason": reason.format(degree=degree), "remedy": ""}
    if degree > gpus:
        return {"reason": few.format(degree=degree, gpus=gpus), "remedy": ""}
    return {}
