"""How the GPUs of a machine are linked, two by two: NVLink or PCIe, and whether one may read the other's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from probes.base.answer import answer
from probes.gpu.facts import GpuFacts, bus_id
from probes.gpu.gpu import Gpu
from probes.gpu.link import GpuLink
from probes.gpu.nvml_errors import explain

T = TypeVar("T")

MOST_NVLINKS: Final = 36  # of a GPU
# nvmlGpuP2PCapsIndex_t; pynvml's own name for the first is a tuple
READ: Final = 0
WRITE: Final = 1
NVLINK: Final = 2
OK: Final = 0
NO_ACCESS: Final[Mapping[int | None, str]] = {  # nvmlGpuP2PStatus_t
    1: "the chipset does not support it",
    2: "the GPU does not support it",
    3: "the way between them over PCIe does not support it",
    4: "the driver's settings forbid it",
    5: "it is not supported",
}
UNTOLD: Final = "the driver does not know"
# by the major compute capability: what nvmlDeviceGetNvLinkVersion codes is not the same on all drivers
NVLINK_GENERATIONS: Final[Mapping[str, int]] = {"6": 1, "7": 2, "8": 3, "9": 4, "10": 5}
PATHS: Final[Mapping[int | None, str]] = {  # nvmlGpuTopologyLevel_t
    0: "on one board",
    10: "through one PCIe switch",
    20: "through several PCIe switches",
    30: "through one PCIe host bridge",
    40: "through the CPU",
    50: "from one CPU to another",
}


def with_links(gpus: Sequence[Gpu], facts: Sequence[GpuFacts]) -> tuple[GpuFacts, ...]:
    """The facts of these GPUs, in the same order, each with its links to those after it. Raises nothing."""
    if len(gpus) < 2:
        return tuple(facts)
    ids = {each.pci_bus_id for each in facts}
    known = list(zip(gpus, facts, strict=True))
    linked = []
    for place, (one, own) in enumerate(known):
        remotes = _remotes(one)
        switched = sum(remote not in ids for remote in remotes)
        between = ((other, its, remotes.count(its.pci_bus_id) or switched) for other, its in known[place + 1 :])
        links = tuple(_link(one, other, own, its, nvlinks) for other, its, nvlinks in between)
        linked.append(replace(own, links=links))
    return tuple(linked)


def _link(one: Gpu, other: Gpu, own: GpuFacts, its: GpuFacts, nvlinks: int) -> GpuLink:
    """`nvlinks`: how many of the first one's lead to the other, or to a switch where none does."""
    nvml, reasons = one.library, list[str]()

    def ask(name: str, *arguments: int) -> int | None:
        try:
            return int(getattr(nvml, name)(one.handle, other.handle, *arguments))
        except Exception as error:  # what a driver cannot say of two GPUs is no reason to say nothing of them
            reasons.append(explain(error))
            return None

    access = [ask("nvmlDeviceGetP2PStatus", READ), ask("nvmlDeviceGetP2PStatus", WRITE)]
    refused = [NO_ACCESS[status] for status in access if status in NO_ACCESS]
    peer = False if refused else True if access == [OK, OK] else None
    reason = "" if peer else [*refused, *reasons, UNTOLD][0]
    over_nvlink = ask("nvmlDeviceGetP2PStatus", NVLINK)
    link = GpuLink(between=(one.source, other.source), peer_access=peer, reason=reason)
    if over_nvlink != OK and over_nvlink not in NO_ACCESS:
        return link
    if over_nvlink == OK:
        generation = _least(_generation(own), _generation(its))
        return replace(link, kind="NVLink", nvlinks=nvlinks or None, nvlink_generation=generation)
    return replace(
        link,
        kind="PCIe",
        pcie_generation=_least(own.pcie_generation_max, its.pcie_generation_max),
        pcie_width=_least(own.pcie_width, its.pcie_width),
        path=PATHS.get(ask("nvmlDeviceGetTopologyCommonAncestor"), ""),
    )


def _remotes(gpu: Gpu) -> list[str | None]:
    """What is at the other ends of its NVLinks that are up, as PCI bus ids; "" where that is not told."""

    def said(name: str, number: int, read: Callable[[Any], T]) -> T | None:
        return answer(lambda: read(getattr(gpu.library, f"nvmlDeviceGetNvLink{name}")(gpu.handle, number)))

    up = [number for number in range(MOST_NVLINKS) if said("State", number, int) == 1]
    return [said("RemotePciInfo", number, bus_id) or "" for number in up]


def _generation(facts: GpuFacts) -> int | None:
    return NVLINK_GENERATIONS.get((facts.compute_capability or "").partition(".")[0])


def _least(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)
