"""What carries between here and the hosts, whatever it is: `ray_cluster` is one, a test's own another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class ClusterLostError(Exception):
    """Nobody can be reached through the cluster any more; the message is a sentence."""


class HostLostError(Exception):
    """One host is out of reach; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Look:
    """What `AtHost.look` returned."""

    lines: bytes
    session: bytes
    changed_ns: int
    live: int


class Link(Protocol):
    """A host that can be reached. Any call may raise HostLostError or ClusterLostError."""

    @property
    def address(self) -> str:
        """Of the node, to tell one from another."""
        ...

    def errand(self, verb: str, asked: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        """As of AtHost."""
        ...

    def begin_look(self, folder: str, offset: int, check: str, seen: int, pause_s: float, wait_s: float) -> None:
        """Have the host look; there is one look at a time."""
        ...

    def looked(self) -> Look | None:
        """What the look found; None as long as it goes on."""
        ...

    def ask(self, folder: str, action: str) -> bool:
        """Drop a request file there; False where it could not be written."""
        ...


class Cluster(Protocol):
    """Hosts by what of the cluster they have."""

    def reach(self, resource: str) -> Link:
        """The host with that resource. Raises HostLostError if there is none now, HostError if there are several."""
        ...

    def wait(self, links: Sequence[Link], timeout_s: float) -> None:
        """Until a look of one of these is over, or the time is."""
        ...
