"""A service level objective: the latencies that a request must keep to count for goodput. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

COLUMNS: Final[Mapping[str, str]] = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}
BOUND: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s)")
SIZES: Final[Mapping[str, float]] = {"ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Slo:
    """`bounds` are the most seconds, by column of the requests frame; a request keeps all of them."""

    bounds: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, text: str) -> Slo:
        """From "ttft:200ms,tpot:50ms". Raises ValueError with a sentence."""
        bounds: dict[str, float] = {}
        for part in text.split(","):
            name, _, bound = (word.strip().lower() for word in part.partition(":"))
            found = BOUND.fullmatch(bound)
            if name not in COLUMNS or found is None or not float(found[1]):
                raise ValueError(
                    f"{part.strip()!r} is not a bound of {', '.join(COLUMNS)}, such as ttft:200ms or e2e:5s."
                )
            if COLUMNS[name] in bounds:
                raise ValueError(f"{name} has two bounds.")
            bounds[COLUMNS[name]] = float(found[1]) * SIZES[found[2]]
        return cls(tuple(bounds.items()))
