"""CPU numbers in the kernel's list format, as in "0-2,7"."""

from __future__ import annotations

from collections.abc import Iterable


def cpus_of(text: str) -> list[int]:
    """The numbers of a list. Raises ValueError where it is none."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def listed(cpus: Iterable[int]) -> str:
    """The list of these numbers."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ",".join("-".join(map(str, run)) for run in runs)
