"""The container that a block's server ran in, as its runner has seen it: what `resolved` holds under server.container.

The runner's module kasoku_container.py says it, in an interpreter that cannot import this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LARGEST_PID = 2**22  # the kernel's own limit


@dataclass(frozen=True, slots=True)
class SeenContainer:
    """`pid` is its first process as this machine numbers it, None where it is `unseen` for that reason; `published` are
    the addresses of this machine that lead into it, (host, port).
    """

    pid: int | None
    unseen: str
    published: tuple[tuple[str, int], ...]


def seen_container(resolved: Mapping[str, object]) -> SeenContainer | None:
    """None where the block's server ran in none, or its runner says nothing of it. What cannot be is left out."""
    server = resolved.get("server")
    said = server.get("container") if isinstance(server, Mapping) else None
    if not isinstance(said, Mapping):
        return None
    pid, published = said.get("pid"), said.get("published")
    return SeenContainer(
        pid=pid if type(pid) is int and 1 < pid <= LARGEST_PID else None,
        unseen=str(said.get("unseen") or ""),
        published=tuple(filter(None, map(_address, published))) if isinstance(published, list) else (),
    )


def _address(said: object) -> tuple[str, int] | None:
    match said:
        case [str() as host, str() as port] if port.isdecimal() and len(port) <= 5:
            return host, int(port)
    return None
