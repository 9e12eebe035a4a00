"""The link between two GPUs, and links in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuLink:
    """The link between two GPUs, by their sources. None, or an empty `kind`: not known.

    `nvlinks` are those that are up between the two, directly or through a switch. PCIe's generation and width are what
    the lesser of the two can do and has. `reason` says why there is no peer access, or why it is not known.
    """

    between: tuple[str, str] = ("", "")
    kind: str = ""  # NVLink | PCIe
    nvlinks: int | None = None
    nvlink_generation: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    path: str = ""  # PCIe's
    peer_access: bool | None = None
    reason: str = ""

    def in_words(self) -> str:
        """As in "NVLink 4, 18 links, with peer access"."""
        way = self.kind or "a link of unknown kind"
        if self.kind == "NVLink":
            way += f" {self.nvlink_generation}" if self.nvlink_generation else ""
            way += f", {self.nvlinks} link{'s' if self.nvlinks != 1 else ''}" if self.nvlinks else ""
        elif self.kind == "PCIe":
            way += f" {self.pcie_generation}.0" if self.pcie_generation else ""
            way += f" x{self.pcie_width}" if self.pcie_width else ""
            way += f" {self.path}" if self.path else ""
        if self.peer_access:
            return f"{way}, with peer access"
        return f"{way}, {'peer access unknown' if self.peer_access is None else 'without peer access'}: {self.reason}"


def linked_in_words(links: Iterable[GpuLink]) -> Iterator[tuple[bool | None, str]]:
    """A line for each kind of link there is, with the pairs that have it, and whether there is peer access."""
    alike: dict[tuple[bool | None, str], list[tuple[str, str]]] = {}
    for link in links:
        alike.setdefault((link.peer_access, link.in_words()), []).append(link.between)
    for (access, words), pairs in alike.items():
        gpus = list(dict.fromkeys(source for pair in pairs for source in pair))
        whole = len(gpus) > 2 and len(pairs) == len(gpus) * (len(gpus) - 1) // 2
        named = f"any two of {', '.join(gpus)}" if whole else "; ".join(map(" and ".join, pairs))
        yield access, f"{named}: {words}"
