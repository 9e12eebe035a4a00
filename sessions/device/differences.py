"""In what the machines and the surroundings of sessions differ, as far as it changes how fast a method runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from probes.host.surroundings import Surroundings
from probes.machine import Machine
from sessions.disk.plan import Plan
from sessions.disk.records import MachineSeen
from sessions.disk.session_folder import SessionFile

Difference = tuple[str, dict[str, object]]  # what differs, and its value by session


def _limit(machine: Machine, name: str, value: float | None) -> object:
    """A control group's limit: "none" where it was looked for and there is none."""
    looked = machine.cores_logical is not None and name not in machine.missing
    return "none" if value is None and looked else value


# What is compared, by what it is called.
OF_MACHINES: Final[Mapping[str, Callable[[Machine], object]]] = {
    "CPU": lambda machine: machine.cpu_model,
    "physical cores": lambda machine: machine.cores_physical,
    "NUMA nodes": lambda machine: machine.numa_nodes,
    "CPU frequency governor": lambda machine: machine.governor,
    "CPU quota": lambda machine: _limit(machine, "cgroup_cpus", machine.cgroup_cpus),
    "memory limit": lambda machine: _limit(machine, "cgroup_memory_bytes", machine.cgroup_memory_bytes),
    "GPU driver": lambda machine: machine.gpu_driver,
}
OF_SURROUNDINGS: Final[Mapping[str, Callable[[Surroundings], object]]] = {
    "SMT": lambda around: around.smt,
    "turbo": lambda around: around.turbo,
    "transparent huge pages": lambda around: around.transparent_huge_pages,
    "NUMA policy": lambda around: around.numa_policy,
    "memory nodes": lambda around: around.memory_nodes,
    "CPUs of the runner": lambda around: around.runner_cpus,
}
UNKNOWN: Final = (None, "", ())
NOT_SET: Final = "not set"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session ran, and in which of Kasoku's environments its methods did."""

    machine: Machine
    surroundings: Surroundings
    environments: frozenset[str]


def differences(places: Mapping[str, Place]) -> Iterator[Difference]:
    """What differs, by session; a session in which something is unknown, as in older ones, is left out there."""
    for words, of_machine in OF_MACHINES.items():
        yield from _unequal(words, {session: of_machine(place.machine) for session, place in places.items()})
    for words, of_surroundings in OF_SURROUNDINGS.items():
        yield from _unequal(words, {session: of_surroundings(place.surroundings) for session, place in places.items()})
    yield from _flags({session: place.surroundings.cpu_flags for session, place in places.items()})
    yield from _variables(places)


def place_of(session: SessionFile) -> Place:
    """Where a saved session ran."""
    environments = frozenset(method.environment for method in session.plan.methods)
    return Place(session.machine, session.surroundings, environments)


def place_seen(record: MachineSeen, plan: Plan) -> Place:
    """Where a session that runs this plan saw itself."""
    return Place(record.machine, record.surroundings, frozenset(method.environment for method in plan.methods))


def changed_since(begun: Place, now: Place) -> str:
    """How what a session began in differs from what it goes on in, as a sentence; "" if nothing does."""
    found = differences({"begun": begun, "now": now})
    return "; ".join(f"{name} was {values['begun']}, is {values['now']}" for name, values in found)


def _unequal(words: str, values: Mapping[str, object]) -> Iterator[Difference]:
    known = {session: value for session, value in values.items() if value not in UNKNOWN}
    if len(set(map(str, known.values()))) > 1:
        yield words, known


def _flags(flags: Mapping[str, tuple[str, ...]]) -> Iterator[Difference]:
    """Only the flags that not all have."""
    known = {session: set(each) for session, each in flags.items() if each}
    shared = set.intersection(*known.values()) if known else set()
    yield from _unequal(
        "CPU flags", {session: " ".join(sorted(each - shared)) or "none of these" for session, each in known.items()}
    )


def _variables(places: Mapping[str, Place]) -> Iterator[Difference]:
    values = {
        session: {(each.environment, each.name): each.value for each in place.surroundings.variables}
        for session, place in places.items()
        if place.surroundings.variables is not None
    }
    for environment, name in sorted({key for own in values.values() for key in own}):
        words = f"{name} of the environment {environment}" if environment else name
        has_it = [session for session in values if not environment or environment in places[session].environments]
        yield from _unequal(words, {session: values[session].get((environment, name), NOT_SET) for session in has_it})
