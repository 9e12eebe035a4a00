"""Flags of what stands between the GPUs that an engine is split over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from sessions.disk.records import MachineSeen
from sessions.frames.flag import Flag

NAME: Final = "no peer access"
NO_LEVEL: Final = ("LOC", "0")


def link_flags(seen: MachineSeen | None, sources: Sequence[str], environment: str | None) -> Iterator[Flag]:
    """Where a block's GPUs cannot read each other's memory, or NCCL is told not to; nothing of one GPU."""
    if seen is None or len(sources) < 2:
        return
    off = [link for link in seen.machine.links(sources) if link.peer_access is False]
    if off:
        more = f" (and {len(off) - 1} more pairs)" if len(off) > 1 else ""
        yield Flag(NAME, f"between {' and '.join(off[0].between)}: {off[0].reason}{more}")
    for name, value in _of_nccl(seen, environment).items():
        if (name == "NCCL_P2P_DISABLE" and value not in ("", "0")) or (name == "NCCL_P2P_LEVEL" and value in NO_LEVEL):
            yield Flag(NAME, f"{name}={value} keeps NCCL from using it")


def _of_nccl(seen: MachineSeen, environment: str | None) -> dict[str, str]:
    """NCCL's variables in an environment's runner, of which its own come last."""
    variables = seen.surroundings.variables or ()
    return {
        each.name: each.value
        for place in ("", environment)
        for each in variables
        if each.environment == place and each.name.startswith("NCCL_")
    }
