"""Kasoku's own commands in surroundings that are wrong: files, folders, variables, and system calls that fail.

    python benchmarks/surroundings.py [--trials 2000] [--seed S] [--only [SEED:]NUMBER …]

A trial copies a home with sessions, a config folder and a model, spoils up to three places or variables of it
(benchmarks/spoiling.py), or has one call of the C library fail (benchmarks/failing_calls.c, built with gcc and
preloaded), and runs one command in a process forked off with everything imported. Permissions count, also for root.

After each: the command ended within its time, with an exit code of its own (0, 1, 2, 130) and a sentence where that is
1 or 2; it said nothing of a failure of Kasoku's own and showed no traceback; no process is left; nothing outside of the
home, the config folder and what the command was told to write is touched. Seed and number say all of a trial.
Exits with 1 where one failed; ctrl+c (SIGINT to the process with --within) ends it early.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import importlib
import io
import mmap
import os
import pkgutil
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from textual.pilot import Pilot

ROOT: Final = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import kasoku  # noqa: E402 - the checkout comes first
from benchmarks.spoiling import ENCODINGS, ODD_VALUES, VARIABLES, WAYS, give_up_privileges  # noqa: E402
from methods.base.warden import become_subreaper, descendants  # noqa: E402

SHIM: Final = "KASOKU_FAILING_CALLS"  # the library's path, in the process that is started again with it preloaded
CALLS: Final = (
    "", "open", "read", "write", "stat", "fstat", "lseek", "opendir", "mkdir", "chmod", "rename", "unlink", "fsync",
    "flock", "ftruncate", "access", "readlink", "getcwd", "pipe", "affinity", "socket", "hostname", "fork",
)  # fmt: skip
ERRORS: Final = (
    "EIO", "ENOSPC", "EACCES", "EPERM", "EROFS", "EMFILE", "ENOENT", "EINVAL", "ENOSYS", "ENOMEM", "EINTR", "ESTALE",
    "ENOLCK", "EDQUOT", "ELOOP", "ENAMETOOLONG", "EXDEV", "EBUSY",
)  # fmt: skip
WORKBENCH: Final = "(the workbench)"
COMMANDS: Final = (
    "sessions", "sessions --json", "show last", "show last --json", "show {first} --as vllm", "show last --as article",
    "compare last", "compare {first} {second} --json", "compare last --csv {out}/table.csv",
    "export last --out {out}/frames", "report last --out {out}/page.md", "methods", "methods --json", "env list",
    "env list --json", "env use other {python}", "env use torch {model}", "env remove plain", "models list",
    "models list --json", "models fetch {model}", "doctor --json", "run {small} --prompt @{out}/none",
    "run {small} --prompt -", "run {small} --method none", "resume {second}", "replay last --speed 100000", "attach",
    "attach last", "stop", "stop last", "--version", "--help", "", "calibrate none",
    "run --model {out}/none --method one",
)  # fmt: skip
SLOW_COMMANDS: Final = (WORKBENCH, "run {small} --prompt @{prompt}", "resume {third}")  # seconds each
SLOW_SHARE: Final = 0.02
SMALL: Final = "--model {model} --method one --requests 1 --blocks 1 --warmup 0 --max-new-tokens 4 --device cpu"
NET: Final = "Kasoku could not go on"
SAID: Final = (
    "Kasoku itself failed",
    "The workbench crashed",
    "Traceback",
    "Exception ignored",
    "Fatal Python error",
    "panicked at",
)
ENDS_WITH: Final = (0, 1, 2, 130)
PATIENCE_S: Final = 60.0
MEMORY_BYTES: Final = 6 << 30


@dataclass
class Trial:
    """What one trial does, drawn from the seed and its number."""

    number: int
    command: str
    spoilt: list[tuple[str, str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    call: tuple[str, int, str, bool] | None = None
    encoding: str = "utf-8"
    gone: bool = False  # the current folder is deleted

    def described(self) -> str:
        what = [f"{place}: {way}" for place, way in self.spoilt]
        what += [f"{name}={value[:40]!r}" for name, value in self.variables.items()]
        if self.call is not None:
            name, nth, error, lasting = self.call
            what.append(f"{name or 'any'} call {nth} gives {error}{' and so on' if lasting else ''}")
        return f"{self.number}: kasoku {self.command} [{'; '.join(what)}; {self.encoding}{'; no cwd' * self.gone}]"


def drawn_trial(seed: int, number: int, places: list[str]) -> Trial:
    drawn = random.Random(f"{seed} {number}")  # noqa: S311
    commands = SLOW_COMMANDS if drawn.random() < SLOW_SHARE else COMMANDS
    trial = Trial(number, drawn.choice(commands), encoding=drawn.choice(ENCODINGS), gone=drawn.random() < 0.03)
    kind = drawn.random()
    if kind < 0.5:
        trial.spoilt = [(drawn.choice(places), drawn.choice(list(WAYS))) for _ in range(drawn.randint(1, 3))]
    if kind < 0.15 or 0.5 <= kind < 0.65:
        trial.variables = {drawn.choice(VARIABLES): drawn.choice(ODD_VALUES) for _ in range(drawn.randint(1, 3))}
    if kind >= 0.65:
        nth = int(2 ** drawn.uniform(0, 6))
        name, error, lasting = drawn.choice(CALLS), drawn.choice(ERRORS), drawn.random() < 0.3
        trial.call = (name, nth, error, lasting and error != "EINTR")  # an interrupted call is made again, for ever
    return trial


class Surroundings:
    """The home, config folder and model that every trial copies, and the places in them that can be spoilt."""

    def __init__(self, template: Path) -> None:
        self.template = template
        inside = sorted(path.relative_to(template) for path in template.rglob("*"))
        self.places = [str(path) for path in inside if path.parts[0] != "untouched"]
        self.sessions = sorted(path.name for path in (template / "home" / "sessions").iterdir())
        self.library = ctypes.CDLL(os.environ[SHIM])
        self.codes: Counter[int] = Counter()
        self.struck = self.caught = 0
        self._failed_calls = mmap.mmap(-1, 1)  # shared with the forked process

    def carry_out(self, trial: Trial, seed: int, at: Path) -> str:
        """What is wrong with how the trial ended, or ""."""
        shutil.copytree(self.template, at, symlinks=True)
        for name in ("out", "tmp", "cwd"):
            (at / name).mkdir()
        drawn = random.Random(f"{seed} {trial.number} spoiling")  # noqa: S311
        for place, way in trial.spoilt:
            with contextlib.suppress(OSError):  # its folder was spoilt before it
                WAYS[way](at / place, drawn)
        before = seen_in(at)
        if trial.gone:
            before.pop("cwd")
        self._failed_calls[0] = 0
        pid = os.fork()
        if pid == 0:
            self._be_the_command(trial, at)
        code = ended(pid)
        said = (at / "out" / "said").read_bytes().decode(errors="replace")
        printed = (at / "out" / "printed").read_bytes().decode(errors="replace")
        self.struck += self._failed_calls[0] > 0
        self.caught += NET in said
        self.codes[-1 if code is None else code] += 1
        wrong = left_running()
        if code not in ENDS_WITH:
            wrong.append(f"it ended with {code}" if code is not None else f"it did not end in {PATIENCE_S:g} s")
        wrong += [sign for sign in SAID if sign in said + printed]
        if code in (1, 2) and not said and not printed and not _is_mute(trial):
            wrong.append("no word of what is wrong")
        with contextlib.suppress(OSError):
            wrong.append((at / "home" / "workbench-failure.log").read_text()[-1500:])
        after = before if trial.variables.keys() & {"KASOKU_HOME", "KASOKU_CONFIG"} else seen_in(at)
        wrong += [f"{name} was touched" for name in sorted(set(before) ^ set(after))]
        wrong += [f"{name} was changed" for name in before if name in after and before[name] != after[name]]
        return "; ".join(wrong) and f"{'; '.join(wrong)}\n{said[-1500:]}{printed[-300:] if 'panick' in printed else ''}"

    def _be_the_command(self, trial: Trial, at: Path) -> None:
        """In the forked process: take on the trial's surroundings, run the command, and end."""
        code = 70
        try:
            os.setsid()
            os.environ |= {name: str(at / place) for name, place in PLACED.items()}
            os.environ |= {"TERM": "dumb", "PYTHON_NO_WARNINGS": "1"}
            os.environ.pop("LD_PRELOAD", None)
            os.chdir(at / "cwd")
            if trial.gone:
                (at / "cwd").rmdir()
            given = {"model": at / "model", "prompt": at / "prompt.txt", "out": at / "out", "python": sys.executable}
            named = dict(zip(("first", "second", "third"), self.sessions, strict=True))
            command = trial.command.replace("{small}", SMALL).format(**given, **named)
            for number, name in enumerate((os.devnull, str(at / "out" / "printed"), str(at / "out" / "said"))):
                os.dup2(os.open(name, os.O_RDWR | os.O_CREAT, 0o600), number)
            sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), trial.encoding, write_through=False)
            sys.stderr = io.TextIOWrapper(
                io.FileIO(2, "w", closefd=False), trial.encoding, "backslashreplace", line_buffering=True
            )
            sys.stdin = io.TextIOWrapper(io.FileIO(0, "r", closefd=False), trial.encoding)
            sys.argv = ["kasoku", *command.split()]
            if not command.startswith("report"):  # V8, which draws its plots, reserves more than there is
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            give_up_privileges()
            for name, value in trial.variables.items():
                os.environ[name] = value
            if trial.call is not None:
                name, nth, error, lasting = trial.call
                self.library.fail_call(name.encode(), nth, getattr(errno, error), lasting)
            try:
                code = visit() if trial.command == WORKBENCH else kasoku.main()
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
        except BaseException:
            self.library.fail_call(b"", 0, 0, 0)
            os.write(2, traceback.format_exc().encode(errors="replace"))
        finally:
            self._failed_calls[0] = min(255, self.library.failed_calls())
            os._exit(code)


def visit() -> int:
    """The workbench without a terminal, from screen to screen; its exit code."""
    from methods.base.home import config_folder, home
    from tui.app import Workbench
    from tui.settings import load_settings

    async def look_around(pilot: Pilot[object]) -> None:
        for key in "2341q":
            await pilot.press(key)
            await pilot.pause()

    kasoku.settle_inheritance()
    settings, problems = load_settings(config_folder())
    app = Workbench(home(), config_folder(), settings=settings, problems=problems)
    app.run(headless=True, size=(100, 30), auto_pilot=look_around)
    sys.stderr.write(app.farewell)
    return app.return_code or 0


PLACED: Final = {
    "KASOKU_HOME": "home",
    "KASOKU_CONFIG": "config",
    "HF_HOME": "hf",
    "TMPDIR": "tmp",
    "HOME": "untouched",
}


def _is_mute(trial: Trial) -> bool:
    """Whether the trial may have silenced the command: where nothing can be written, there is the exit code."""
    return trial.call is not None and trial.call[0] in ("", "write", "open", "read", "stat", "fstat", "lseek")


def seen_in(at: Path) -> dict[str, tuple[int, int]]:
    """What lies beside the home and the config folder, with modes and times: it is not the command's to touch."""
    found = {}
    for name in ("untouched", "tmp", "cwd", "model", "."):
        folder = at / name
        with contextlib.suppress(OSError):
            for path in folder.iterdir() if name == "." else folder.rglob("*"):
                if path.name in ("home", "config") and name == ".":
                    continue
                told = path.lstat()
                size = told.st_mtime_ns if path.is_file() and not path.is_symlink() else 0
                found[str(path.relative_to(at))] = (told.st_mode, size)
    return found


def ended(pid: int) -> int | None:
    """The exit code of our child (minus the signal that ended it); None where it did not end and was killed."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        over, status = os.waitpid(pid, os.WNOHANG)
        if over:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def left_running() -> list[str]:
    """Which processes of the trial live on; a conductor gets the time to end its session. They are ended."""
    until = time.monotonic() + PATIENCE_S
    while left := {pid for pid, state in descendants(os.getpid()).items() if state != "Z"}:
        if time.monotonic() > until:
            break
        time.sleep(0.01)
    told = []
    for pid in left:
        with contextlib.suppress(OSError):
            told.append(
                f"left running: {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ')[-200:].decode()}"
            )
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0 if left else os.WNOHANG)[0]:
            pass
    return told


def make_template(at: Path) -> None:
    """Two sessions that ended and one that was broken off, in a home with what belongs to it."""
    from tests.sessions.conftest import workplace_in
    from tests.sessions.workplace import conductor_of, make_model

    work = workplace_in(at)
    make_model(work.model, ["hello", "world"])
    (at / "prompt.txt").write_text("hello world")
    (at / "untouched").mkdir()
    (at / "untouched" / "note").write_text("of the user's")
    os.environ |= {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config), "HF_HOME": str(at / "hf")}
    work.method("one", rate=500.0)
    work.run("one")
    work.run("one")
    (work.config / "settings.toml").write_text('theme = "nord"\nmouse = true\n')
    folder = work.launch("one", max_new_tokens=10)
    conductor = conductor_of(folder)
    conductor.kill()
    conductor.wait()


@contextlib.contextmanager
def prepared() -> Iterator[Path]:
    """A folder with the template and the library, in which this program can be started again."""
    folder = Path(tempfile.mkdtemp(prefix="kasoku-surroundings-"))
    try:
        library = folder / "failing_calls.so"
        source = Path(__file__).with_name("failing_calls.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source)], check=True)
        subprocess.run([sys.executable, __file__, "--template", str(folder / "template")], check=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def import_everything() -> None:
    """So that a trial is a fork, and the calls that fail are those of the command."""
    for room in kasoku.ROOMS:
        package = importlib.import_module(room)
        for found in pkgutil.walk_packages(package.__path__, f"{room}."):
            if "runner" not in found.name:
                importlib.import_module(found.name)


def campaign(options: argparse.Namespace) -> int:
    """The trials, in the process that has the library preloaded."""
    become_subreaper()
    import_everything()
    folder = Path(options.within)
    surroundings = Surroundings(folder / "template")
    trials = options.only or [(None, number) for number in range(options.trials)]
    done = failed = 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in a script's background
    began = time.monotonic()
    for own_seed, number in trials:
        seed = options.seed if own_seed is None else own_seed
        trial = drawn_trial(seed, number, surroundings.places)
        at = folder / f"trial-{seed}-{number}"
        try:
            wrong = surroundings.carry_out(trial, seed, at)
        except KeyboardInterrupt:
            break
        done += 1
        if wrong:
            failed += 1
            print(f"seed {seed}: {trial.described()}\n    {wrong}", flush=True)
        subprocess.run(["rm", "-rf", str(at)], check=False)
    seen = surroundings
    print(
        f"seed {options.seed}: {done} trials, {failed} failed, in {time.monotonic() - began:.0f} s;"
        f" exit codes {dict(sorted(seen.codes.items()))}; in {seen.struck} a call failed, {seen.caught} ended with the"
        " system's own words"
    )
    return 1 if failed else 0


def seed_and_number(text: str) -> tuple[int | None, int]:
    """SEED:NUMBER, or NUMBER alone."""
    seed, colon, number = text.rpartition(":")
    return int(seed) if colon else None, int(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument(
        "--only", type=seed_and_number, nargs="+", metavar="[SEED:]NUMBER", help="these trials; of --seed by default"
    )
    parser.add_argument("--template", help=argparse.SUPPRESS)
    parser.add_argument("--within", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.template:
        make_template(Path(options.template))
        return 0
    if options.within:
        return campaign(options)
    with prepared() as folder:
        library = str(folder / "failing_calls.so")
        told = ["--trials", str(options.trials), "--seed", str(options.seed), "--within", str(folder)]
        chosen = [f"{options.seed if seed is None else seed}:{number}" for seed, number in options.only or ()]
        only = ["--only", *chosen] if chosen else []
        print(f"seed {options.seed}", flush=True)
        return subprocess.run(
            [sys.executable, __file__, *told, *only],
            env={**os.environ, "LD_PRELOAD": library, SHIM: library},
            check=False,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
