"""Sessions broken on purpose at random moments, and what is left of each.

    python benchmarks/faults.py [--kills 300] [--kills-a-session 1]
                                [--stops 0] [--stop-seconds 30] [--hangups 0] [--full-disks 0]
                                [--surroundings 0]
                                [--engine scripted|vllm-cpu|torch-compile] [--model M] [--seed S] [--only FAULT-NUMBER]

A kill is SIGKILL to the conductor, the preparation, a warden, a runner or the viewer; a stop is SIGSTOP, and SIGCONT
after --stop-seconds; a hangup is SIGHUP; a full disk lets no file of the conductor, or of what it starts, grow beyond a
random byte. Who is hit, and when, is drawn from the seed; `--only kill-17` repeats one. With more than one kill a
session it is hit again each time that it is resumed, before it may run to its end: dear engines are broken so.

After each: nothing of the session runs any more (searched by command line, environment, working directory and open
files, not by name); `kasoku show` opens it; every whole line of the journal is in the frames and every row of the
frames in the journal; it can be resumed to its end; and then all of that again. The session of one that failed is kept.

With `--surroundings 2000` only so many trials of benchmarks/surroundings.py are made: Kasoku's commands with
files, folders and variables that are wrong, and system calls that fail.

The engine `scripted` needs nothing; the others need what `kasoku env create` makes, in KASOKU_HOME: its environments
and models are used, and copies of what it has compiled. Needs the development packages (`make setup`). Exits with 1
where one failed; ctrl+c ends it early.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from methods.base.home import CACHE, ENVIRONMENTS, MODELS, home, private_folder  # noqa: E402 - the checkout comes first
from probes.capture import capture  # noqa: E402
from probes.gpu.nvml import Nvml  # noqa: E402
from sessions.disk.records import MachineSeen  # noqa: E402
from sessions.disk.session_folder import SessionFolder  # noqa: E402
from sessions.run.launch import missing, resume  # noqa: E402
from sessions.run.software import software  # noqa: E402
from tests.sessions.conftest import workplace_in  # noqa: E402
from tests.sessions.processes import described, processes_of, until  # noqa: E402
from tests.sessions.soundness import assert_completed, assert_sound  # noqa: E402
from tests.sessions.victims import VICTIMS, stands_at, struck_while_live  # noqa: E402
from tests.sessions.workplace import KASOKU, Workplace, conductor_of, records_of, runs_of  # noqa: E402

SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "hangup": signal.SIGHUP}
VIEWER: Final = "viewer"
DRAWS: Final = 20  # of a moment, until one falls into the session
LARGEST_FILES: Final = 1.5  # times the undisturbed journal: up to where a disk fills up


@dataclass(frozen=True)
class Engine:
    """What is measured: its methods, what the sessions look like, and how long one may take."""

    methods: tuple[str, ...]
    changes: dict[str, Any]
    deadline_s: float


SHORT: Final = {"requests": 2, "blocks": 2, "warmup": 1, "max_new_tokens": 24}
REAL: Final = {"requests": 1, "blocks": 1, "warmup": 1, "max_new_tokens": 16, "prompt_tokens": 16, "threads": 1,
               "load_deadline_s": 600.0, "token_deadline_s": 300.0}  # fmt: skip
ENGINES: Final = {
    "scripted": Engine(("one", "two"), SHORT, 120.0),
    "vllm-cpu": Engine(("vllm",), REAL, 1800.0),
    "torch-compile": Engine(("torch-compile",), REAL, 1800.0),
}


@dataclass(frozen=True)
class Usual:
    """An undisturbed session: how long it and its preparation take, in seconds, and how large its journal is."""

    length_s: float
    preparation_s: float
    journal_bytes: int


@dataclass(frozen=True)
class Hit:
    """Who was hit, and where the session stood by its journal."""

    victim: str
    stage: str


class Campaign:
    """Sessions of one engine in one workplace, each broken in one way and then looked at."""

    def __init__(self, folder: Path, work: Workplace, engine: Engine, options: argparse.Namespace) -> None:
        self._folder, self._work, self._engine, self._options = folder, work, engine, options
        self.usual = self._undisturbed()

    def _undisturbed(self) -> Usual:
        for _ in range(2):  # the first one fills caches
            began = time.monotonic()
            begun_ns = time.perf_counter_ns()
            folder = self._launch()
            status = self._ended(folder)
            length = time.monotonic() - began
            if said := [*filter(None, [folder.read().error, *(row["error"] for row in runs_of(folder))])]:
                raise SystemExit(f"An undisturbed session {status}: {' '.join(said)}")
            assert_completed(folder)
            assert_sound(folder)
            prepared = next(record.t for record in records_of(folder) if isinstance(record, MachineSeen))
            usual = Usual(length, (prepared - begun_ns) / 1e9, folder.journal.stat().st_size)
        return usual

    def _launch(self) -> SessionFolder:
        return self._work.launch(*self._engine.methods, **self._engine.changes)

    def _ended(self, folder: SessionFolder) -> str:
        return self._work.finished(folder, self._engine.deadline_s)

    # One way of breaking a session each: gives who was hit, or None where the session had ended before

    def signalled(
        self, fault: str, drawn: random.Random, again: SessionFolder | None
    ) -> tuple[SessionFolder, Hit | None]:
        """A signal to a random process at a random moment of a new session, or of `again` as it is resumed."""
        victim = drawn.choice([*VICTIMS, VIEWER])
        share = drawn.random()
        if victim == VIEWER:
            return self._viewer_signalled(fault, share, again)
        folder = again or self._launch()
        if again is not None:
            resume(again, self._work.home)
        latest = self.usual.preparation_s if victim == "preparation" else self.usual.length_s
        time.sleep(share * latest)
        struck = struck_while_live(folder, victim, SIGNALS[fault])
        if struck is None:
            return folder, None
        self._go_on(fault, struck[0])
        return folder, Hit(victim, struck[1])

    def _viewer_signalled(
        self, fault: str, share: float, again: SessionFolder | None
    ) -> tuple[SessionFolder, Hit | None]:
        before = {folder.id for folder in self._work.sessions()}
        changes = {name.removesuffix("_s"): value for name, value in self._engine.changes.items()}
        command = ["resume", again.id] if again else self._work.options(*self._engine.methods, **changes)
        viewer = psutil.Popen([str(KASOKU), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        folder = again or until(lambda: self._new(before), "the viewer makes a session", 60)
        until(lambda: folder.is_live() or viewer.poll() is not None, "its conductor is at work", 60)
        time.sleep(share * self.usual.length_s)
        if viewer.poll() is not None:
            return folder, None
        stage = stands_at(folder)
        viewer.send_signal(SIGNALS[fault])
        self._go_on(fault, viewer)
        viewer.wait(self._engine.deadline_s)
        return folder, Hit(VIEWER, stage)

    def _new(self, before: set[str]) -> SessionFolder | None:
        """The session that was not there before, once it is whole."""
        made = (one for one in self._work.sessions() if one.id not in before)
        return next((one for one in made if (one.path / "session.json").exists()), None)

    def _go_on(self, fault: str, process: psutil.Process) -> None:
        """Let a stopped process run again after the time asked for."""
        if fault == "stop":
            time.sleep(self._options.stop_seconds)
            with contextlib.suppress(psutil.NoSuchProcess):  # a runner that was silent for too long has been ended
                process.send_signal(signal.SIGCONT)

    def full(self, drawn: random.Random) -> tuple[SessionFolder, Hit | None]:
        """No file of the conductor and what it starts may grow beyond a random byte."""
        limit = drawn.randrange(int(self.usual.journal_bytes * LARGEST_FILES))
        folder = self._launch()
        conductor = conductor_of(folder)
        resource.prlimit(conductor.pid, resource.RLIMIT_FSIZE, (limit, limit))
        until(lambda: not folder.is_live(), f"{folder.id} ends", self._engine.deadline_s)
        raw = folder.journal.read_bytes() if folder.journal.exists() else b""
        assert raw[-1:] in (b"", b"\n"), "a line that did not fit is taken back"
        said = folder.read()
        assert "Kasoku itself failed" not in said.error, said.error
        return folder, Hit("conductor", stands_at(folder)) if said.status != "finished" or said.error else None

    # What has to be true afterwards

    def check(self, folder: SessionFolder, *, complete: bool) -> bool:
        """Raises AssertionError with what is wrong; with `complete` it is resumed to its end. Whether it has one."""
        self._ended(folder)
        self._assert_nothing_runs()
        self._assert_opens(folder)
        if not complete and missing(folder):
            return False
        resume(folder, self._work.home)
        self._ended(folder)
        self._assert_nothing_runs()
        assert_completed(folder)
        self._assert_opens(folder)
        return True

    def _assert_nothing_runs(self) -> None:
        until(
            lambda: not processes_of(self._folder),
            f"nothing runs any more: {described(processes_of(self._folder))}",
            15,
        )

    def _assert_opens(self, folder: SessionFolder) -> None:
        said = self._work.command("show", folder.id)
        assert said.code == 0, said.err
        assert folder.id in said.out
        assert_sound(folder)

    def one(
        self, fault: str, number: int, again: SessionFolder | None = None, *, complete: bool = True
    ) -> tuple[Hit, SessionFolder | None]:
        """Break a session, a new one or `again`, so that it is really hit, and check it; what is to go on, if any."""
        for draw in range(DRAWS):
            drawn = random.Random(f"{self._options.seed} {fault} {number} {draw}")  # noqa: S311
            folder, hit = self.full(drawn) if fault == "disk" else self.signalled(fault, drawn, again)
            try:
                completed = self.check(folder, complete=complete or hit is None)
            except BaseException:
                kept = Path(tempfile.mkdtemp(prefix=f"kasoku-fault-{fault}-{number}-"))
                shutil.copytree(folder.path, kept / folder.id)
                print(f"{fault}-{number}: {hit or 'nobody was hit'}; the session is kept in {kept}")
                raise
            again = None if completed else folder
            if completed:
                shutil.rmtree(folder.path)
            if hit is not None:
                return hit, again
        raise AssertionError(f"{DRAWS} sessions ended before the moment drawn for them")


@contextmanager
def workplace(folder: Path, engine: str, model: str | None) -> Iterator[tuple[Workplace, Engine]]:
    """Where the sessions run, pointed at by the environment variables that every one of their processes inherits."""
    shared = home()
    work = workplace_in(folder)
    chosen = ENGINES[engine]
    if engine == "scripted":
        work.method("one", rate=200.0)
        work.method("two", reference="one", rate=300.0)
    else:
        for name in (ENVIRONMENTS, MODELS):
            (work.home / name).symlink_to(private_folder(shared / name))
        if (compiled := shared / CACHE / "compiled").is_dir():
            shutil.copytree(compiled, private_folder(work.home / CACHE) / "compiled")
        chosen = Engine(chosen.methods, {**chosen.changes, "model": model or "smollm2-135m"}, chosen.deadline_s)
    os.environ |= {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config), "HF_HOME": str(folder / "hf")}
    try:
        yield work, chosen
    finally:
        for process in processes_of(folder):
            process.kill()


def trials(options: argparse.Namespace) -> list[tuple[str, int]]:
    """Which faults, how often."""
    if options.only:
        fault, _, number = options.only.rpartition("-")
        return [(fault, int(number))]
    counts = {"kill": options.kills, "stop": options.stops, "hangup": options.hangups, "disk": options.full_disks}
    return [(fault, number) for fault, count in counts.items() for number in range(count)]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--kills-a-session", type=int, default=1)
    parser.add_argument("--stops", type=int, default=0)
    parser.add_argument("--stop-seconds", type=float, default=30.0)
    parser.add_argument("--hangups", type=int, default=0)
    parser.add_argument("--full-disks", type=int, default=0)
    parser.add_argument("--surroundings", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default="scripted")
    parser.add_argument("--model", help="of a real engine; smollm2-135m by default")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="one fault by its name, kill-17 for one")
    options = parser.parse_args()
    if options.surroundings:
        trials_of = [str(Path(__file__).with_name("surroundings.py")), "--trials", str(options.surroundings)]
        return subprocess.run([sys.executable, *trials_of, "--seed", str(options.seed)], check=False).returncode

    machine = capture(Nvml())
    print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine.cpu_model}, {len(machine.affinity)} cores, {machine.kernel}"
    )
    print(", ".join(f"{name} {version}" for name, version in software().items()))
    hits: Counter[tuple[str, str, str]] = Counter()
    failed: list[str] = []
    again: SessionFolder | None = None
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kasoku-faults-"))
    try:
        with workplace(folder, options.engine, options.model) as (work, engine):
            campaign = Campaign(folder, work, engine, options)
            usual = campaign.usual
            print(
                f"undisturbed, a {options.engine} session takes {usual.length_s:.1f} s, of which"
                f" {usual.preparation_s:.1f} s preparing; its journal has {usual.journal_bytes} bytes",
                flush=True,
            )
            for fault, number in trials(options):
                last = fault != "kill" or (number + 1) % options.kills_a_session == 0 or number + 1 == options.kills
                try:
                    hit, again = campaign.one(fault, number, again, complete=last)
                    hits[fault, hit.victim, hit.stage] += 1
                    print(f"{fault}-{number}: {hit.victim}, {hit.stage}")
                except KeyboardInterrupt:
                    break  # what was done until then is told
                except Exception:
                    again = None
                    failed.append(f"{fault}-{number}")
                    traceback.print_exc()
                    for process in processes_of(folder):
                        process.kill()
                sys.stdout.flush()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told(hits, failed, time.monotonic() - began, options)
    return 1 if failed else 0


def told(hits: Counter[tuple[str, str, str]], failed: list[str], seconds: float, options: argparse.Namespace) -> None:
    """The table of who was hit where, and what failed with how to repeat it."""
    print(f"\n{'fault':<8}{'victim':<13}{'where the session stood':<26}count")
    for (fault, victim, stage), count in sorted(hits.items()):
        print(f"{fault:<8}{victim:<13}{stage:<26}{count}")
    for fault in sorted({fault for fault, _, _ in hits}):
        victims = Counter({v: sum(n for (f, w, _), n in hits.items() if (f, w) == (fault, v)) for _, v, _ in hits})
        print(f"{fault}: " + ", ".join(f"{victim} {count}" for victim, count in sorted(victims.items())))
    print(f"{sum(hits.values())} sessions broken and sound afterwards, {len(failed)} failed, in {seconds / 60:.1f} min")
    for name in failed:
        print(f"repeat: python benchmarks/faults.py --engine {options.engine} --seed {options.seed} --only {name}")


if __name__ == "__main__":
    sys.exit(main())
