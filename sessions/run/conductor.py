"""The conductor: a separate process that carries out one session's plan and is the only writer of its journal.

    python kasoku.py sessions.run.conductor SESSION_FOLDER LOCK_FD

Detached from any terminal. The session's lock comes in by inheritance and is held for life; viewers steer by request
files. A method's failure is that method's row; a failure here ends the session with a sentence.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import msgspec

from methods.base.home import CACHE, HomeError, home, private_folder
from methods.base.interpreter import Unavailable
from methods.base.log_tail import log_tail
from methods.base.refusal import refusal
from methods.base.server_address import is_loopback, port_of
from methods.base.warden import become_subreaper, descendants
from probes.base.clock import boot_id
from probes.capture import capture
from probes.gpu.nvml import Nvml
from probes.host.cgroup import CgroupCounts, cgroup_counts
from probes.host.sockets import listening_on, sockets_of
from sessions.close.session_end import close_session
from sessions.device.affinity import keep_to, shared_out
from sessions.device.device_lock import DeviceLock
from sessions.device.differences import changed_since, place_seen
from sessions.disk.journal import JournalError, JournalWriter, read_journal
from sessions.disk.plan import Plan, PlannedBlock
from sessions.disk.records import (
    SCHEMA_VERSION,
    AnyRecord,
    Asked,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    Header,
    Loaded,
    MachineSeen,
    Note,
    Phase,
    PointEnded,
    PointStarted,
    Prepared,
    SessionEnded,
    SocketsSeen,
)
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.run.begun import DATED, Begun
from sessions.run.block_run import REFUSED, SPARED, BlockEnd, BlockRun
from sessions.run.block_surroundings import surroundings_of
from sessions.run.energy_reading import energy_at
from sessions.run.known_evidence import KnownEvidence
from sessions.run.limits_met import limits_met
from sessions.run.preparation_run import PreparationRun
from sessions.run.rounds import Rounds
from sessions.run.software import software
from sessions.run.steering import Steering
from sessions.run.telemetry_feed import TelemetryFeed

IDLE_POWER_S = 2.0
NOTED_TICKS = 10  # a second's worth
WAIT_S = 0.2
AROUND_TIMED = ("warmup", "evidence")  # the engine is loaded, and the last timed request is over
RESUMED_ELSEWHERE = "resumed in other surroundings"
OPEN_TO_THE_NETWORK = "open to the network"
TIMED_EDGES = {"timed": "timed_start", "evidence": "timed_end"}
NOT_AGAIN = "Not run: this method could not be loaded in block {block} ({error})"


class SessionFailedError(Exception):
    """The session cannot go on; the text is the sentence that session.json and the viewers show."""


class Conductor:
    """Carries out the plan in `folder`; `run()` returns once the session is finished, stopped or failed."""

    def __init__(self, folder: SessionFolder, home_folder: Path) -> None:
        self._folder, self._home = folder, home_folder
        self._plan: Plan = folder.plan()
        self._journal = JournalWriter(folder.path)
        self._steering = Steering(folder)
        self._feed = TelemetryFeed(Nvml())
        self._begun = Begun()
        self._evidence = KnownEvidence()
        self._rounds = Rounds(self._plan, folder.read().goals)
        self._refused = ""
        self._not_loadable: dict[str, str] = {}
        self._counts = CgroupCounts()
        self._changed = ""

    def run(self) -> str:
        """The session's status at its end."""
        keep_to(shared_out().workbench)
        self._steering.obey_sigterm()
        status, error = "failed", ""
        devices = DeviceLock(self._plan.gpu_uuids or [self._plan.device], self._folder.id)
        try:
            become_subreaper()
            self._open()
            if self._plan.server is not None and is_loopback(self._plan.server):
                self._feed.also_ours(listening_on(port_of(self._plan.server)))
            self._feed.start()
            finished = False
            if self._wait_for(devices) and (prepared := self._prepare()) is not None:
                finished = self._measure(prepared)
            status = "finished" if finished else "stopped"
        except (SessionFailedError, SessionError, JournalError, HomeError) as problem:
            error = str(problem)
            self._journal.release_ballast()  # where the disk is full, the last words fit into it
        except (OSError, MemoryError, ImportError) as problem:
            traceback.print_exc()
            error = refusal(problem)
            self._journal.release_ballast()
        except Exception as problem:  # our own bug; the session still ends in good order
            traceback.print_exc()
            said = f"{type(problem).__name__}: {problem}"
            error = f"Kasoku itself failed ({said}): see conductor.log in the session's folder."
        finally:
            self._feed.stop()
            devices.release()
        self._end(status, error)
        return status

    def _open(self) -> None:
        resumed = False
        for record in read_journal(self._folder.journal):
            resumed = resumed or isinstance(record, Header)
            self._begun.feed(record)
            self._evidence.feed(record)
            self._rounds.feed(record)
        self._append(
            Header(
                t=time.perf_counter_ns(),
                schema_version=SCHEMA_VERSION,
                session=self._folder.id,
                realtime_ns=time.time_ns(),
                boot_id=boot_id(),
                resumed=resumed,
            )
        )
        for sentence in [] if resumed else self._plan.remarks:
            self._append(Note(t=time.perf_counter_ns(), text=sentence))
        for record in self._rounds.open():
            self._append(record)

    def _append(self, record: AnyRecord) -> None:
        self._journal.append(record)
        self._rounds.feed(record)
        self._begun.feed(record)
        self._evidence.feed(record)

    def _attend(self) -> None:
        """Work done continuously: journal telemetry, read viewers' requests."""
        for record in self._feed.records():
            self._append(record)
        for sentence in self._feed.troubles():
            self._append(Note(t=time.perf_counter_ns(), text=sentence))
        for action, method, block in self._steering.look():
            self._append(Asked(t=time.perf_counter_ns(), action=action, method=method, block=block))

    def _cache(self) -> Path:
        """The home's cache, which is not made a second time where the home was moved away."""
        return private_folder(self._home / CACHE, within=self._folder.path)

    def _wait_for(self, devices: DeviceLock) -> bool:
        """Wait until this session has its devices to itself; False if it was stopped first."""
        folder = self._cache()
        waiting = None
        while not self._steering.stop and (holder := devices.try_take(folder)) is not None:
            if holder != waiting:
                waiting = holder
                self._phase("device", "started", f"waiting for session {holder}, which is measuring on this device")
            self._attend()
            time.sleep(WAIT_S)
        if waiting:
            self._phase("device", "ended", "it is free now" if not self._steering.stop else "stopped while waiting")
        return not self._steering.stop

    def _phase(self, name: str, state: str, detail: str) -> None:
        self._append(Phase(t=time.perf_counter_ns(), name=name, state=state, detail=detail))

    def _prepare(self) -> Prepared | None:
        """Environments, model and prompt; None if stopped. Raises SessionFailedError."""
        self._folder.write(msgspec.structs.replace(self._folder.read(), status="preparing"))
        preparation = PreparationRun(self._folder, self._append, self._every_preparation_tick)
        prepared = preparation.carry_out()
        if prepared is None:
            if self._steering.stop:
                return None
            raise SessionFailedError(preparation.error)
        machine = capture(self._feed.nvml)
        idle, ticks = self._feed.idle_power(self._plan.gpu_sources, IDLE_POWER_S)
        for tick in ticks:
            self._append(tick)
        around = surroundings_of(self._plan, prepared, self._cache())
        seen = MachineSeen(
            t=time.perf_counter_ns(),
            machine=machine,
            software=software(),
            gpus=self._plan.gpu_sources,
            idle_w=idle.total,
            idle_each=idle.each,
            surroundings=around,
        )
        self._append(seen)
        if prepared.prompt_dated:
            self._append(Note(t=time.perf_counter_ns(), text=DATED))
        session = self._folder.read()
        self._changed = changed_since(place_seen(self._begun.machine or seen, self._plan), place_seen(seen, self._plan))
        self._folder.write(
            msgspec.structs.replace(
                session, status="running", machine=machine, surroundings=around, software=software(), error=""
            )
        )
        return prepared

    def _every_preparation_tick(self) -> str:
        self._attend()
        return "stop" if self._steering.stop else ""

    def _measure(self, prepared: Prepared) -> bool:
        """Run every missing block of the rounds that the goal asks for; False if stopped before the last had ended."""
        of = self._rounds.of
        for position, row in self._rounds.missing(self._begun.done, self._append):
            if self._steering.stop:
                return False
            self._attend()
            block = self._begun.left(row)
            status = self._block(block, position, of, prepared)
            while status in SPARED and (rest := self._begun.not_reached(block)) is not None:
                block = rest  # a point that took the process with it does not take the others
                status = self._block(block, position, of, prepared)
            if self._steering.ends_with(status):
                return False
            self._journal.sync()
        return True

    def _block(self, block: PlannedBlock, position: int, of: int, prepared: Prepared) -> str:
        """Run one block, or record why not; returns its status."""
        name = block.method
        if (lacking := prepared.unavailable.get(name)) is not None:
            return self._no_block(block, "unavailable", f"{lacking.reason} {_remedy(lacking)}".strip())
        if name in self._not_loadable:
            return self._no_block(block, "failed", self._not_loadable[name])
        if (name, block.block) in self._steering.skips:
            return self._no_block(block, "stopped", "Skipped by request.")
        interpreter = prepared.interpreters[name]
        self._refused = ""
        self._append(
            BlockStarted(
                t=time.perf_counter_ns(),
                method=name,
                block=block.block,
                position=position,
                of=of,
                environment=interpreter.environment,
                points=block.points,
            )
        )
        if self._changed:
            self._note(block, RESUMED_ELSEWHERE, f"{name}, block {block.block}: {self._changed}")
        self._energy(block, "start")
        run = BlockRun(
            self._folder,
            self._plan,
            block,
            prepared,
            lambda record: self._append_of(block, record),
            lambda: self._every_block_tick(block),
            self._cache(),
            known=self._evidence.of(name),
            reference=self._begun.reference,
            ends_ns=self._rounds.ends_ns,
        )
        missed = self._feed.missed_ticks
        try:
            ended = run.carry_out(self._feed.watch)
        except (JournalError, HomeError) as problem:  # the disk is full: its row says so, if there is room for that
            self._journal.release_ballast()
            self._no_block(block, "failed", str(problem), log_tail(self._folder.log(name, block.block)))
            raise
        self._energy(block, "end")
        self._attend()
        if (lost := self._feed.missed_ticks - missed) >= NOTED_TICKS:  # what counts of it is flagged from the frames
            self._note(block, "", f"{name}, block {block.block}: {lost} telemetry ticks are missing.")
        self._remember(block, ended)
        return ended.status

    def _remember(self, block: PlannedBlock, ended: BlockEnd) -> None:
        """Do not retry a method that could not be loaded: it would only fail the same way.

        One that broke off at the first of several points is not known to fail at the others.
        """
        if self._begun.not_reached(block) is not None:
            return
        if ended.requests == 0 and ended.status in ("failed", "oom", "stalled", "unavailable"):
            self._not_loadable[block.method] = NOT_AGAIN.format(block=block.block, error=ended.error.rstrip(".")) + "."

    def _append_of(self, block: PlannedBlock, record: AnyRecord) -> None:
        """A record of the block's runner; where its timed part begins or is over, the energy counters are read too.

        Its sockets are looked at when it has loaded, and when the last timed request is over.
        """
        self._append(record)
        if isinstance(record, Loaded):
            self._refused = self._begun.other_versions(record)
        if isinstance(record, BlockPhase) and record.phase in TIMED_EDGES:
            self._energy(block, TIMED_EDGES[record.phase])
            self._count_limits(block, record.phase)
        if isinstance(record, PointStarted | PointEnded):
            self._energy(block, "timed_start" if isinstance(record, PointStarted) else "timed_end", record.place)
        if isinstance(record, BlockPhase) and record.phase in AROUND_TIMED:
            self._look_at_sockets(block)

    def _count_limits(self, block: PlannedBlock, phase: str) -> None:
        """At the timed part's end, a flag for what a control group's limits cost in it."""
        before, self._counts = self._counts, cgroup_counts()
        if phase != "evidence":
            return
        for flag, cause in limits_met(before, self._counts):
            self._note(block, flag, f"{block.method}, block {block.block}: {cause}")

    def _look_at_sockets(self, block: PlannedBlock) -> None:
        """Record where the block's processes listen; add a note, and so a flag, if other machines can reach that."""
        seen = sockets_of(descendants(os.getpid()))
        self._append(
            SocketsSeen(
                t=time.perf_counter_ns(),
                method=block.method,
                block=block.block,
                listening=list(seen.listening),
                beyond=list(seen.beyond),
                connected=list(seen.connected),
                reason=seen.reason,
            )
        )
        if seen.beyond:
            said = f"{block.method}, block {block.block}: listens on {', '.join(seen.beyond)}"
            self._note(block, OPEN_TO_THE_NETWORK, said)

    def _every_block_tick(self, block: PlannedBlock) -> str:
        self._attend()
        if self._steering.stop:
            return "stop"
        if self._refused:
            return f"{REFUSED}{self._refused}"
        return "skip" if (block.method, block.block) in self._steering.skips else ""

    def _no_block(self, block: PlannedBlock, status: str, error: str, log: Sequence[str] = ()) -> str:
        """Record the end of a block that was not run; returns its status."""
        self._append(
            BlockEnded(
                t=time.perf_counter_ns(),
                method=block.method,
                block=block.block,
                status=status,
                error=error,
                log_tail=list(log),
                points=block.points,
            )
        )
        return status

    def _note(self, block: PlannedBlock, flag: str, text: str) -> None:
        self._append(Note(t=time.perf_counter_ns(), text=text, flag=flag, method=block.method, block=block.block))

    def _energy(self, block: PlannedBlock, edge: str, place: int | None = None) -> None:
        self._append(energy_at(block, edge, self._feed.nvml, self._plan, place))

    def _end(self, status: str, error: str) -> None:
        """Write the final record, build the frames, set the status; a full disk may prevent all but the journal."""
        try:
            self._append(SessionEnded(t=time.perf_counter_ns(), status=status, error=error))
        except JournalError as problem:
            error = error or str(problem)
        self._journal.close()
        close_session(self._folder, status, error)


def _remedy(lacking: Unavailable) -> str:
    return f"Fix: `{lacking.remedy}`." if lacking.remedy else ""


def main(arguments: list[str]) -> int:
    folder = SessionFolder(Path(arguments[0]))
    os.set_inheritable(int(arguments[1]), False)
    try:
        conductor = Conductor(folder, home())
    except Exception as error:  # before there is a journal to say it in
        traceback.print_exc()
        close_session(folder, "failed", str(error))
        return 1
    return 0 if conductor.run() in ("finished", "stopped") else 1
