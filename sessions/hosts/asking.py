"""One question to hosts, in a process of its own, so that nobody else loads Ray: JSON in, one JSON object out.

python kasoku.py sessions.hosts.asking begin|doctor|more|find
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final, TypeVar

import msgspec

from methods.base.home import SESSIONS, HomeError, home
from sessions.disk.host_file import OnHost, write_host
from sessions.disk.plan import Plan
from sessions.disk.records import SCHEMA_VERSION
from sessions.disk.session_folder import SessionError, create
from sessions.hosts.at_host import ABSENT, SILENT
from sessions.hosts.cluster import Cluster, ClusterLostError, HostLostError, Link
from sessions.hosts.errands import kasoku_version
from sessions.hosts.hosts import HostError
from sessions.hosts.messages import (
    About,
    Begun,
    DoctorAsked,
    Examined,
    MoreAsked,
    Planned,
    Refused,
    RunAsked,
    StartAsked,
)

AT_ONCE: Final = 32
SHORT_S: Final = 120.0
FIND_S: Final = 480.0  # the frames of a long session may have to be built first
CREATE_S: Final = 3600.0
OPEN: Final = (
    "The cluster at {on} asks for no token: whoever reaches one of its ports runs code on all its machines, and here."
    " Start it with RAY_AUTH_MODE=token (Ray 2.52 or later)."
)

Answer = TypeVar("Answer", bound=msgspec.Struct)
Result = TypeVar("Result")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`hosts` are the resources by name; the rest is what the verb takes."""

    on: str
    hosts: dict[str, str]
    run: RunAsked = RunAsked(said={})
    doctor: DoctorAsked = DoctorAsked()
    more: MoreAsked = MoreAsked(session="")


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """The IDs of the sessions that were begun, by host."""

    ids: dict[str, str]


class Doctored(msgspec.Struct, frozen=True, kw_only=True):
    """What each host said, or why it did not; `remark` is a sentence on the cluster, or ""."""

    hosts: dict[str, Examined | None]
    refused: dict[str, str]
    remark: str = ""


class Hosts:
    """The hosts of a question, each reached and of this version. Raises HostError for the first that is not."""

    def __init__(self, cluster: Cluster, named: Mapping[str, str]) -> None:
        self._pool = ThreadPoolExecutor(max_workers=AT_ONCE)
        self.links = self.each(named, lambda name: _reached(cluster, name, named[name]))
        addresses: dict[str, str] = {}
        for name, link in self.links.items():
            if (other := addresses.setdefault(link.address, name)) != name:
                raise HostError(
                    f"{other} and {name} are the same host, {link.address}: a host takes one session of a run."
                )
        self.each(named, self._check)

    def errand(self, name: str, verb: str, asked: msgspec.Struct, kind: type[Answer], timeout_s: float) -> Answer:
        """What a host answers. Raises HostError with its sentence."""
        code, out, err = self.links[name].errand(verb, msgspec.json.encode(asked), timeout_s)
        if code == ABSENT:
            python = out.decode(errors="replace")[:300]
            raise HostError(
                f"{name} has no Kasoku in the Python that its Ray runs in, {python}: install kasoku[ray] there."
            )
        if code == SILENT:
            raise HostError(f"{name} did not answer within {timeout_s:.0f} s.")
        try:
            return msgspec.json.decode(out, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        try:
            said = msgspec.json.decode(out, type=Refused).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            last = err.decode(errors="replace").strip().splitlines()[-1:]
            said = f"Kasoku failed there ({last[0][:300] if last else f'exit code {code}'})."
        raise HostError(f"{name}: {said}")

    def all(
        self, verb: str, asked: Callable[[str], msgspec.Struct], kind: type[Answer], timeout_s: float
    ) -> dict[str, Answer]:
        """What each host answers to what it is asked. Raises HostError for the first that refuses."""
        return self.each(self.links, lambda name: self.errand(name, verb, asked(name), kind, timeout_s))

    def _check(self, name: str) -> None:
        about = self.errand(name, "about", RunAsked(said={}), About, SHORT_S)
        if (about.version, about.schema) != (kasoku_version(), SCHEMA_VERSION):
            raise HostError(
                f"{name} has Kasoku {about.version[:40]} (schema {about.schema}), and this is {kasoku_version()}"
                f" (schema {SCHEMA_VERSION}): install the same on both."
            )

    def each(self, names: Mapping[str, object], what: Callable[[str], Result]) -> dict[str, Result]:
        """What comes of it for each, once all are over. Raises HostError for the first that fails."""
        futures = {name: self._pool.submit(_named, name, what) for name in names}
        wait(futures.values())
        return {name: future.result() for name, future in futures.items()}


def _named(name: str, what: Callable[[str], Result]) -> Result:
    try:
        return what(name)
    except HostLostError as error:
        raise HostError(f"{name}: {error}") from None


def _reached(cluster: Cluster, name: str, resource: str) -> Link:
    try:
        return cluster.reach(resource)
    except HostError as error:
        raise HostError(f"{name}: {error}") from None


def begin(cluster: Cluster, question: Question) -> Sessions:
    """Plan on every host, and only then start on each, into folders here. Raises HostError."""
    run = question.run
    hosts = Hosts(cluster, question.hosts)
    plans = hosts.all("plan", lambda _: run, Planned, SHORT_S)
    ids: dict[str, str] = {}
    for name in question.hosts:
        ids[name] = _folder(question, name, plans[name].plan)

    def start(name: str) -> None:
        asked = StartAsked(session=ids[name], plan=plans[name].plan)
        _write_host(question, name, ids[name], hosts.errand(name, "start", asked, Begun, SHORT_S).folder)

    try:
        hosts.each(ids, start)
    except HostError as error:
        others = " and ".join(f"{name} ({session})" for name, session in ids.items())
        raise HostError(f"{error} Of {others} those that began go on: `kasoku attach` finds them.") from None
    return Sessions(ids=ids)


def _folder(question: Question, name: str, plan: str) -> str:
    """A folder here for what a host is going to measure; its ID."""
    try:
        folder, lock = create(home() / SESSIONS, msgspec.json.decode(plan, type=Plan))
        os.close(lock)
        _write_host(question, name, folder.id, "")
        folder.write(msgspec.structs.replace(folder.read(), host=name))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise HostError(f"{name}: what it sent cannot be read as a plan.") from None
    except (SessionError, HomeError) as error:
        raise HostError(str(error)) from None
    return folder.id


def _write_host(question: Question, name: str, session: str, there: str) -> None:
    on = OnHost(on=question.on, host=name, resource=question.hosts[name], folder=there)
    write_host(home() / SESSIONS / session, on)


def more(cluster: Cluster, question: Question) -> Begun:
    """Have the one host of the question resume or extend a session. Raises HostError."""
    asked = question.more
    return next(iter(Hosts(cluster, question.hosts).all("more", lambda _: asked, Begun, SHORT_S).values()))


def find(cluster: Cluster, question: Question) -> Begun:
    """Where the session is on the one host of the question. Raises HostError."""
    asked = question.more
    return next(iter(Hosts(cluster, question.hosts).all("find", lambda _: asked, Begun, FIND_S).values()))


def doctor(cluster: Cluster, question: Question) -> Doctored:
    """What each host says of itself; one that cannot be asked is among the refused."""

    def asked(name: str) -> Examined | str:
        try:
            one = Hosts(cluster, {name: question.hosts[name]})
            return one.errand(name, "doctor", question.doctor, Examined, CREATE_S)
        except HostError as error:
            return str(error)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        said = dict(zip(question.hosts, pool.map(asked, question.hosts), strict=True))
    return Doctored(
        hosts={name: None if isinstance(one, str) else one for name, one in said.items()},
        refused={name: one for name, one in said.items() if isinstance(one, str)},
    )


VERBS: Final[dict[str, Callable[[Cluster, Question], msgspec.Struct]]] = {
    "begin": begin,
    "more": more,
    "find": find,
    "doctor": doctor,
}


def main(arguments: list[str]) -> int:
    from sessions.hosts.ray_cluster import RayCluster

    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        cluster = RayCluster(question.on)
        answer: msgspec.Struct = VERBS[arguments[0]](cluster, question)
        if isinstance(answer, Doctored) and cluster.is_open:
            answer = msgspec.structs.replace(answer, remark=OPEN.format(on=question.on))
    except (HostError, ClusterLostError, HostLostError, HomeError) as error:
        answer = Refused(error=str(error))
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()
    os._exit(0)  # without Ray's own farewells
