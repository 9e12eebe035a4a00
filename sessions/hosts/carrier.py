"""The carrier: it stands here for the conductors of sessions on other hosts, and carries in what they journal.

    python kasoku.py sessions.hosts.carrier FOLDER LOCK_FD [FOLDER LOCK_FD]…

Detached from any terminal, like a conductor. It holds the sessions' locks, so that whoever follows, stops or lists them
finds them as if they ran here. Nothing of a session depends on it: all it knows is in the folders, and another one goes
on from there. When the connection is lost it starts itself again, with the locks, since a client that was cut off is
not to be trusted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from sessions.disk.host_file import host_of
from sessions.disk.session_folder import REQUEST, SessionError, SessionFolder
from sessions.hosts.at_host import GONE, OTHER
from sessions.hosts.carried import Carried, CarryError
from sessions.hosts.cluster import Cluster, ClusterLostError, HostLostError, Link
from sessions.hosts.hosts import HostError
from sessions.hosts.messages import MoreAsked
from sessions.run.own_process import own_process

CARRIER: Final = "sessions.hosts.carrier"
PAUSE_S: Final = 0.5  # between two looks at a host, at the least
EACH_S: Final = 0.02  # and for each host, so that thousands do not take a core
WAIT_S: Final = 10.0
SILENT_S: Final = 30.0  # beyond what a look may take: then the host is lost
RETRY_S: Final = 5.0
PATIENCE_S: Final = 600.0  # out of reach for so long: the session ends here, as interrupted
UNTOLD_S: Final = 20.0  # and sooner, where it was asked to stop
ERRAND_S: Final = 600.0
HUNG_S: Final = 300.0  # in one step; to build the frames of a long session is one


class _Way:
    """One session on its way: the link to its host, if there is one, and what is going on over it."""

    def __init__(self, carried: Carried) -> None:
        self.carried = carried
        self.link: Link | None = None
        self.looking_since: float | None = None
        self.retry_at = 0.0
        self.task: Future[None] | None = None


class Carrier:
    """Carries sessions until each is over, or was given up; `run()` may raise ClusterLostError, and can be repeated."""

    def __init__(
        self,
        cluster: Cluster,
        carried: Sequence[Carried],
        patience_s: float = PATIENCE_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._cluster, self._patience_s, self._retry_s = cluster, patience_s, retry_s
        self._ways = [_Way(each) for each in carried]
        self._pause_s = max(PAUSE_S, EACH_S * len(self._ways))
        self._tasks = ThreadPoolExecutor(max_workers=8)
        self.beat = time.monotonic()

    def run(self) -> None:
        """Until none is left. Raises ClusterLostError."""
        try:
            while open_ways := [way for way in self._ways if not way.carried.over]:
                for way in open_ways:
                    self.beat = time.monotonic()
                    self._step(way)
                self.beat = time.monotonic()
                looking = [way.link for way in open_ways if way.link is not None and way.looking_since is not None]
                if looking:
                    self._cluster.wait(looking, 0.2)
                else:
                    time.sleep(0.2)
        finally:
            self._tasks.shutdown(wait=False, cancel_futures=True)

    def _step(self, way: _Way) -> None:
        """Whatever can be done for one session now, without waiting."""
        carried = way.carried
        try:
            if way.link is None:
                self._reach(way)
            elif way.looking_since is None:
                check = carried.check() if carried.host.lost_ns is not None or not carried.seen else ""
                way.link.begin_look(
                    str(carried.host.folder), carried.offset, check, carried.seen, self._pause_s, WAIT_S
                )
                way.looking_since = time.monotonic()
            else:
                self._look(way, way.link)
            if way.link is not None and not carried.over:
                self._tell(way, way.link)
        except HostLostError:
            way.link, way.looking_since = None, None
            way.retry_at = time.monotonic() + self._retry_s
            carried.lost()
        except (CarryError, HostError, SessionError) as error:
            carried.give_up(str(error))
        if not carried.over:
            give_up_lost(carried, self._patience_s)

    def _reach(self, way: _Way) -> None:
        if time.monotonic() >= way.retry_at:
            way.link = self._cluster.reach(way.carried.host.resource)

    def _look(self, way: _Way, link: Link) -> None:
        carried = way.carried
        found = link.looked()
        if found is None:
            if (
                way.looking_since is not None
                and time.monotonic() - way.looking_since > WAIT_S + self._pause_s + SILENT_S
            ):
                raise HostLostError("It has gone silent.")
            return
        way.looking_since = None
        carried.reached()
        if found.live == GONE:
            raise CarryError(
                f"There is no session {carried.folder.id} on {carried.host.host}, in {carried.host.folder}."
            )
        if found.live == OTHER:
            carried.begin_again()
            return
        carried.take(found)
        if carried.abandoned and not carried.over:
            self._do(way, lambda: _close_there(link, carried))

    def _tell(self, way: _Way, link: Link) -> None:
        names = asked(way.carried.folder)
        if names:
            self._do(way, lambda: _pass_on(link, way.carried, names))

    def _do(self, way: _Way, what: Callable[[], None]) -> None:
        """Have something done that waits for the host; one thing at a time for each."""
        if way.task is not None:
            if not way.task.done():
                return
            ended, way.task = way.task, None
            if (error := ended.exception()) is not None:
                raise error
        way.task = self._tasks.submit(what)


def give_up_lost(carried: Carried, patience_s: float = PATIENCE_S) -> None:
    """End a session here whose host has been out of reach for too long, or which was asked to stop meanwhile."""
    name, session = carried.host.host, carried.folder.id
    if carried.lost_s > UNTOLD_S and "stop" in asked(carried.folder):
        carried.folder.take_asked()
        carried.give_up(
            f"{name} is out of reach and was not told to stop: `kasoku attach {session}` finds what it measured, once"
            " it is back."
        )
    elif carried.lost_s > patience_s:
        carried.give_up(
            f"{name} has been out of reach for {patience_s / 60:.0f} minutes: `kasoku attach {session}` goes on with"
            f" what it measured meanwhile, and `kasoku resume {session}` with what is missing, once it is back."
        )


def asked(folder: SessionFolder) -> list[str]:
    """The request files in a session's folder, which stay there."""
    try:
        return [name for name in sorted(os.listdir(folder.path / "requests")) if REQUEST.fullmatch(name)]  # noqa: PTH208
    except OSError:
        return []


def _pass_on(link: Link, carried: Carried, names: Sequence[str]) -> None:
    for name in names:
        if link.ask(carried.host.folder, name):
            with contextlib.suppress(OSError):
                (carried.folder.path / "requests" / name).unlink()


def _close_there(link: Link, carried: Carried) -> None:
    """The host finalises a session whose conductor is gone."""
    link.errand("find", msgspec.json.encode(MoreAsked(session=carried.folder.id)), ERRAND_S)


def _opened(arguments: Sequence[str]) -> Iterator[Carried]:
    for path, lock in zip(arguments[::2], arguments[1::2], strict=True):
        os.set_inheritable(int(lock), False)
        folder = SessionFolder(Path(path))
        if (host := host_of(folder.path)) is not None:
            yield Carried(folder, host)


def _start_over(arguments: Sequence[str], carried: Sequence[Carried]) -> None:
    """This process from its beginning, with what is left to carry."""
    kept: list[str] = []
    left = {str(each.folder.path) for each in carried if not each.over}
    for path, lock in zip(arguments[::2], arguments[1::2], strict=True):
        if path in left:
            os.set_inheritable(int(lock), True)
            kept += [path, lock]
    command = own_process(CARRIER, *kept)
    os.execv(command[0], command)


def main(arguments: list[str]) -> int:
    from sessions.hosts.ray_cluster import RayCluster

    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    carried = list(_opened(arguments))
    while left := [each for each in carried if not each.over]:
        try:
            cluster = RayCluster(left[0].host.on)
            carrier = Carrier(cluster, left)
            threading.Thread(target=_watch, args=(carrier, arguments, carried), daemon=True).start()
            carrier.run()
        except ClusterLostError as problem:
            sys.stderr.write(f"{time.strftime('%F %T')} {problem}\n")
            for each in left:
                if not each.over:
                    each.lost()
                    give_up_lost(each)
            time.sleep(RETRY_S)
            if "ray" in sys.modules:
                _start_over(arguments, carried)
        except HostError as problem:
            for each in left:
                each.give_up(str(problem))
    os._exit(0)  # without Ray's own farewells, which wait for a head that may be gone


def _watch(carrier: Carrier, arguments: Sequence[str], carried: Sequence[Carried]) -> None:
    """Start over where a call into Ray does not come back."""
    while time.monotonic() - carrier.beat < HUNG_S:
        time.sleep(1)
    for each in carried:
        if not each.over:
            each.lost()
    _start_over(arguments, carried)
