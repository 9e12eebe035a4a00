"""The conductor: a separate process that carries out one session's plan and is the only writer of its journal.

    python kasoku.py sessions.run.conductor SESSION_FOLDER LOCK_FD

Detached from any terminal. The session's lock comes in by inheritance and is held for life; viewers steer by request
files. A method's failure is that method's row; a failure here ends the session with a sentence.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from pathlib import Path

import msgspec

from methods.base.home import CACHE, HomeError, home, private_folder
from methods.base.refusal import refusal
from methods.base.server_address import is_loopback, port_of
from methods.base.warden import become_subreaper
from probes.base.clock import boot_id
from probes.capture import capture
from probes.gpu.nvml import Nvml
from probes.host.sockets import listening_on
from sessions.close.session_end import close_session
from sessions.device.affinity import keep_to, shared_out
from sessions.device.device_lock import DeviceLock
from sessions.device.differences import changed_since, place_seen
from sessions.device.lane_cores import LaneCores, lane_cores
from sessions.disk.journal import JournalError, JournalWriter, read_journal
from sessions.disk.plan import Plan
from sessions.disk.records import (
    SCHEMA_VERSION,
    AnyRecord,
    Asked,
    Header,
    MachineSeen,
    Note,
    Phase,
    Prepared,
    SessionEnded,
)
from sessions.disk.session_folder import SessionError, SessionFolder
from sessions.run.begun import DATED, Begun
from sessions.run.block_surroundings import surroundings_of
from sessions.run.known_evidence import KnownEvidence
from sessions.run.lanes import Lanes
from sessions.run.preparation_run import PreparationRun
from sessions.run.rounds import Rounds
from sessions.run.session_block import Measuring
from sessions.run.software import software
from sessions.run.steering import Steering
from sessions.run.telemetry_feed import TelemetryFeed

IDLE_POWER_S = 2.0
WAIT_S = 0.2


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
        self._changed = ""
        self._cores = LaneCores(())
        self._lock = threading.RLock()

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
        with self._lock:
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
        self._cores = lane_cores(self._plan, machine, shared_out().runner)
        for sentence in (DATED if prepared.prompt_dated else "", self._cores.said):
            if sentence:
                self._append(Note(t=time.perf_counter_ns(), text=sentence))
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
        session = Measuring(
            folder=self._folder,
            plan=self._plan,
            prepared=prepared,
            cache=self._cache,
            journal=self._journal,
            feed=self._feed,
            steering=self._steering,
            begun=self._begun,
            evidence=self._evidence,
            rounds=self._rounds,
            append=self._append,
            attend=self._attend,
            changed=self._changed,
            cores=self._cores.lanes,
        )
        return Lanes(session, self._lock).run()

    def _end(self, status: str, error: str) -> None:
        """Write the final record, build the frames, set the status; a full disk may prevent all but the journal."""
        try:
            self._append(SessionEnded(t=time.perf_counter_ns(), status=status, error=error))
        except JournalError as problem:
            error = error or str(problem)
        self._journal.close()
        close_session(self._folder, status, error)


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
