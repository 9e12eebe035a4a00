"""A cluster of one machine without Ray: hosts are homes, and their actors threads of this process."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from sessions.hosts.at_host import ERRANDS, AtHost
from sessions.hosts.cluster import HostLostError, Link, Look
from sessions.run.own_process import own_process
from tests.sessions.workplace import Workplace


class LocalLink:
    """A host at the end of a wire that can be cut: `cluster.cut` has its resource."""

    def __init__(self, cluster: LocalCluster, resource: str) -> None:
        self._cluster, self._resource = cluster, resource
        self._look: Future[tuple[bytes, bytes, int, int]] | None = None
        self.address = cluster.address_of(resource)

    def _whole(self) -> None:
        if self._resource in self._cluster.cut:
            raise HostLostError("The wire is cut.")

    def errand(self, verb: str, asked: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:
        self._whole()
        work = self._cluster.places[self._resource]
        variables = {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
        done = subprocess.run(
            own_process(ERRANDS, verb),
            input=asked,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=os.environ | variables,
        )
        return done.returncode, done.stdout, done.stderr

    def begin_look(self, folder: str, offset: int, check: str, seen: int, pause_s: float, wait_s: float) -> None:
        self._whole()
        self._cluster.looks += 1
        look = AtHost().look
        self._look = self._cluster.pool.submit(look, folder, offset, check, seen, 1 << 20, 0.02, 0.2)

    def looked(self) -> Look | None:
        self._whole()
        if self._look is None or not self._look.done():
            return None
        found, self._look = self._look.result(), None
        return Look(*found)

    def ask(self, folder: str, action: str) -> bool:
        self._whole()
        return AtHost().ask(folder, action) == 1


@dataclass
class LocalCluster:
    """`places` by resource; those in `cut` are out of reach, and `looks` counts what was asked of any."""

    places: dict[str, Workplace]
    cut: set[str] = field(default_factory=set)
    looks: int = 0
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))

    def address_of(self, resource: str) -> str:
        return str(self.places[resource].home)

    def reach(self, resource: str) -> Link:
        if resource not in self.places or resource in self.cut:
            raise HostLostError(f"No host of the cluster has the resource {resource} now.")
        return LocalLink(self, resource)

    def wait(self, links: Sequence[Link], timeout_s: float) -> None:
        time.sleep(0.02)
