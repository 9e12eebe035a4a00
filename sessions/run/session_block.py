"""One block within its session: run, with what is looked at around it, or recorded as not run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from methods.base.home import HomeError
from methods.base.interpreter import Unavailable
from methods.base.log_tail import log_tail
from methods.base.warden import descendants
from probes.host.cgroup import CgroupCounts, cgroup_counts
from probes.host.sockets import sockets_of
from sessions.disk.journal import JournalError, JournalWriter
from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Loaded,
    Note,
    PointEnded,
    PointStarted,
    Prepared,
    SocketsSeen,
)
from sessions.disk.seen_container import SeenContainer, seen_container
from sessions.disk.session_folder import SessionFolder
from sessions.run.begun import Begun
from sessions.run.block_run import REFUSED, SPARED, BlockEnd, BlockRun
from sessions.run.energy_reading import energy_at
from sessions.run.known_evidence import KnownEvidence
from sessions.run.limits_met import limits_met
from sessions.run.rounds import Rounds
from sessions.run.steering import Steering
from sessions.run.telemetry_feed import TelemetryFeed
from sessions.run.wardens import Wardens

NOTED_TICKS: Final = 10  # a second's worth
AROUND_TIMED: Final = ("warmup", "evidence")  # the engine is loaded, and the last timed request is over
RESUMED_ELSEWHERE: Final = "resumed in other surroundings"
OPEN_TO_THE_NETWORK: Final = "open to the network"
TIMED_EDGES: Final = {"timed": "timed_start", "evidence": "timed_end"}
NOT_AGAIN: Final = "Not run: this method could not be loaded in block {block} ({error})"


@dataclass(slots=True, kw_only=True)
class Measuring:
    """What the blocks of a session share. `append` journals a record, `attend` does what is due in between, `cache`
    gives the home's; `changed` is in what the surroundings differ from those that the session was begun in; `cores` are
    each lane's.
    """

    folder: SessionFolder
    plan: Plan
    prepared: Prepared
    cache: Callable[[], Path]
    journal: JournalWriter
    feed: TelemetryFeed
    steering: Steering
    begun: Begun
    evidence: KnownEvidence
    rounds: Rounds
    append: Callable[[AnyRecord], None]
    attend: Callable[[], None]
    changed: str
    cores: Sequence[frozenset[int]]
    not_loadable: dict[str, str] = field(default_factory=dict)  # why, by method
    wardens: Wardens = field(default_factory=Wardens)
    broken: bool = False  # another lane has failed: this one is to stop


class SessionBlock:
    """`run()` gives its status, once it is over and its end journalled; `attend` does what is due meanwhile."""

    def __init__(self, session: Measuring, block: PlannedBlock, position: int, attend: Callable[[], None]) -> None:
        self._session, self._block, self._position, self._attend = session, block, position, attend
        self._refused = ""
        self._counts = CgroupCounts()
        self._run: BlockRun | None = None
        self._runner: int | None = None
        self._container: SeenContainer | None = None

    def run(self) -> str:
        """Run it, or record why not; after a point that took the process with it, those that it had not reached."""
        status = self._once()
        while status in SPARED and (rest := self._session.begun.not_reached(self._block)) is not None:
            self._block = rest
            status = self._once()
        return status

    def _once(self) -> str:
        session, block, name = self._session, self._block, self._block.method
        if (lacking := session.prepared.unavailable.get(name)) is not None:
            return self._no_block("unavailable", f"{lacking.reason} {_remedy(lacking)}".strip())
        if name in session.not_loadable:
            return self._no_block("failed", session.not_loadable[name])
        if (name, block.block) in session.steering.skips:
            return self._no_block("stopped", "Skipped by request.")
        self._refused, self._container = "", None
        session.append(
            BlockStarted(
                t=time.perf_counter_ns(),
                method=name,
                block=block.block,
                position=self._position,
                of=session.rounds.of,
                environment=session.prepared.interpreters[name].environment,
                points=block.points,
            )
        )
        if session.changed:
            self._note(RESUMED_ELSEWHERE, session.changed)
        self._energy("start")
        lane = session.plan.lane_of(block.block)
        self._run = BlockRun(
            session.folder,
            session.plan,
            block,
            session.prepared,
            self._append,
            self._every_tick,
            session.cache(),
            known=session.evidence.of(name),
            reference=session.begun.reference if lane == session.rounds.first_lane else None,  # once a method
            ends_ns=session.rounds.ends_ns,
            wardens=session.wardens,
            cores=session.cores[lane],
        )
        missed = session.feed.missed_ticks
        try:
            ended = self._run.carry_out(self._watch)
        except (JournalError, HomeError) as problem:  # the disk is full: its row says so, if there is room for that
            session.journal.release_ballast()
            self._no_block("failed", str(problem), log_tail(session.folder.log(name, block.block)))
            raise
        self._energy("end")
        self._attend()
        lost = session.feed.missed_ticks - missed
        if lost >= NOTED_TICKS:  # what counts of it is flagged from the frames
            self._note("", f"{lost} telemetry ticks are missing.")
        self._remember(ended)
        return ended.status

    def _remember(self, ended: BlockEnd) -> None:
        """Do not retry a method that could not be loaded: it would only fail the same way.

        One that broke off at the first of several points is not known to fail at the others.
        """
        if self._session.begun.not_reached(self._block) is not None:
            return
        if ended.requests == 0 and ended.status in ("failed", "oom", "stalled", "unavailable"):
            why = NOT_AGAIN.format(block=self._block.block, error=ended.error.rstrip("."))
            self._session.not_loadable[self._block.method] = f"{why}."

    def _append(self, record: AnyRecord) -> None:
        """A record of the block's runner; where its timed part begins or is over, the energy counters are read too.

        Its sockets are looked at when it has loaded, and when the last timed request is over.
        """
        self._session.append(record)
        if isinstance(record, Loaded):
            self._refused = self._session.begun.other_versions(record)
            self._container = seen_container(record.resolved)
            self._watch(self._runner)
        if isinstance(record, BlockPhase) and record.phase in TIMED_EDGES:
            self._energy(TIMED_EDGES[record.phase])
            self._count_limits(record.phase)
        if isinstance(record, PointStarted | PointEnded):
            self._energy("timed_start" if isinstance(record, PointStarted) else "timed_end", record.place)
        if isinstance(record, BlockPhase) and record.phase in AROUND_TIMED:
            self._look_at_sockets()

    def _watch(self, runner: int | None) -> None:
        """Have the telemetry be of the runner's process tree, and of the container's that its server runs in."""
        self._runner = runner
        first = self._container.pid if self._container is not None else None
        pids = [pid for pid in (runner, first) if pid is not None] if runner is not None else []
        self._session.feed.watch(pids, self._session.plan.lane_of(self._block.block))

    def _count_limits(self, phase: str) -> None:
        """At the timed part's end, a flag for what a control group's limits cost in it."""
        before, self._counts = self._counts, cgroup_counts()
        if phase != "evidence":
            return
        for flag, cause in limits_met(before, self._counts):
            self._note(flag, cause)

    def _look_at_sockets(self) -> None:
        """Record where the block's processes listen; add a note, and so a flag, if other machines can reach that."""
        pids = set(descendants(self._run.warden_pid) if self._run is not None else ())
        if self._container is not None and (first := self._container.pid) is not None:
            pids |= {first, *descendants(first)}
        seen = sockets_of(pids, self._container.published if self._container is not None else ())
        self._session.append(
            SocketsSeen(
                t=time.perf_counter_ns(),
                method=self._block.method,
                block=self._block.block,
                listening=list(seen.listening),
                beyond=list(seen.beyond),
                connected=list(seen.connected),
                reason=seen.reason,
            )
        )
        if seen.beyond:
            self._note(OPEN_TO_THE_NETWORK, seen.beyond_in_words())

    def _every_tick(self) -> str:
        session = self._session
        self._attend()
        if session.steering.stop or session.broken:
            return "stop"
        if self._refused:
            return f"{REFUSED}{self._refused}"
        return "skip" if (self._block.method, self._block.block) in session.steering.skips else ""

    def _no_block(self, status: str, error: str, log: Sequence[str] = ()) -> str:
        """Record the end of a block that was not run; returns its status."""
        self._session.append(
            BlockEnded(
                t=time.perf_counter_ns(),
                method=self._block.method,
                block=self._block.block,
                status=status,
                error=error,
                log_tail=list(log),
                points=self._block.points,
            )
        )
        return status

    def _note(self, flag: str, said: str) -> None:
        method, block = self._block.method, self._block.block
        text = f"{method}, block {block}: {said}"
        self._session.append(Note(t=time.perf_counter_ns(), text=text, flag=flag, method=method, block=block))

    def _energy(self, edge: str, place: int | None = None) -> None:
        session = self._session
        session.append(energy_at(self._block, edge, session.feed.nvml, session.plan, place))


def _remedy(lacking: Unavailable) -> str:
    return f"Fix: `{lacking.remedy}`." if lacking.remedy else ""
