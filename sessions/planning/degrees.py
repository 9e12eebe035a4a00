"""`--tensor-parallel`: each method of a plan at each degree, which is over how many GPUs its engine is split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from methods.catalogue.method import SERVER
from sessions.disk.option_table import Value, table
from sessions.disk.options import RunOptions
from sessions.disk.plan import DEGREE, PlannedMethod

(OPTION,) = (option for option in table(RunOptions) if option.name == "tensor_parallel")
ONE_GPU: Final = "Its engine runs on one GPU: it cannot be split over {degree}."
NO_GPUS: Final = "It cannot be split over {degree} GPUs: this session runs on the CPU."
FEW_GPUS: Final = "It cannot be split over {degree} GPUs: this session has {gpus}, and --device names more."
FEW_IN_LANE: Final = "It cannot be split over {degree} GPUs: with --spread a round has {gpus}."
DIFFERS: Final = "Its weights and its work are split over {degree} GPUs instead of {least}."


def degrees_of(value: Value | None) -> list[int]:
    """The degrees of the option's text, each once; none where it is not said, or cannot be read."""
    try:
        return [] if value is None else [int(number) for number in OPTION.numbers(str(value))]
    except ValueError:
        return []


def at_degrees(
    methods: Sequence[PlannedMethod], degrees: Sequence[int], gpus: int, lanes: int | None = None
) -> list[PlannedMethod]:
    """Each method at each degree, compared with itself at the least of them; that one with the method's own reference,
    at the least degree too. `gpus`: how many a round has, 0 on the CPU.

    What cannot be split so is `lacking`.
    """
    names = {method.name for method in methods}
    few = (FEW_GPUS if lanes is None else FEW_IN_LANE) if gpus else NO_GPUS
    return [each for method in methods for each in _at_each(method, names, degrees, gpus, few)]


def _at_each(
    method: PlannedMethod, names: set[str], degrees: Sequence[int], gpus: int, few: str
) -> Iterator[PlannedMethod]:
    least = min(degrees)
    for degree in degrees:
        lacks = method.lacking or _lacking(method, degree, gpus, few)
        split = replace(method, name=_named(method.name, degree), degree=degree, lacking=lacks)
        if degree > 1 and method.engine != SERVER:  # nobody looks into a server's step
            split = replace(split, must_show={**method.must_show, "collectives_min": 1})
        if degree > least:
            differs = DIFFERS.format(degree=degree, least=least)
            yield replace(split, reference=_named(method.name, least), differs=differs)
        elif method.reference in names:
            yield replace(split, reference=_named(str(method.reference), least))
        else:
            yield split


def _named(name: str, degree: int) -> str:
    return f"{name}{DEGREE}{degree}"


def _lacking(method: PlannedMethod, degree: int, gpus: int, few: str) -> dict[str, str]:
    """Reason and remedy, as in a planned method; empty where nothing is in the way."""
    if degree == 1:
        return {}
    if not method.tensor_parallel:
        return {"reason": ONE_GPU.format(degree=degree), "remedy": ""}
    if degree > gpus:
        return {"reason": few.format(degree=degree, gpus=gpus), "remedy": ""}
    return {}
