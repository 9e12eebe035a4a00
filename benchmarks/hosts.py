"""Sessions on two hosts of a real Ray cluster while links are cut and processes killed, or what many hosts cost here.

    python benchmarks/hosts.py [--cut-s 60] [--only FAULT]…     needs root, for network namespaces
    python benchmarks/hosts.py --simulated 10,100,1000          without Ray: the carrier's own cost

Each fault hits sessions at work on both hosts. Afterwards both have finished, here and there, with the same journal and
every response, nothing of theirs is running, and where they were told to stop they were resumed.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pty
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.hosts_here import NAMES, Machines, can_be_apart, machines
from benchmarks.machine_line import machine_line
from methods.base.home import SESSIONS
from sessions.disk.host_file import OnHost, host_of, write_host
from sessions.disk.records import Tokens
from sessions.disk.session_folder import SessionFolder, create
from sessions.hosts.carried import Carried
from sessions.hosts.carrier import CARRIER, EACH_S, Carrier
from sessions.hosts.cluster import Link, Look
from sessions.run.launch import missing
from tests.sessions.conftest import workplace_in
from tests.sessions.processes import described, processes_of, until
from tests.sessions.workplace import KASOKU, conductor_of, records_of

TOKENS: Final = 40  # a response
RATE: Final = 10  # tokens/s: 4 s a response
BACK_S: Final = 400.0


class Run:
    """One run on both hosts: the folders here and there, in the hosts' order."""

    def __init__(self, here: Machines, requests: int, folders: Sequence[SessionFolder]) -> None:
        self.machines, self.requests = here, requests
        self.folders = sorted(folders, key=_host_name)
        homes = [here.hosts[name].home for name in NAMES]
        self.there = [SessionFolder(home / SESSIONS / each.id) for home, each in zip(homes, self.folders, strict=True)]

    def at_work(self) -> None:
        """Wait until both have tokens here."""
        for folder in self.folders:
            until(partial(tokens, folder), f"{folder.id} is followed here")

    def over(self, status: str = "finished") -> None:
        """Wait until both have ended so, here and there, and check that nothing is lost and nothing left."""
        for folder, there in zip(self.folders, self.there, strict=True):
            until(partial(ended, folder), f"{folder.id} ends here", BACK_S)
            assert (folder.read().status, there.read().status) == (status, status), folder.read().error
            assert folder.journal.read_bytes() == there.journal.read_bytes(), "the journals are not the same"
            if status == "finished":
                assert tokens(folder) >= self.requests * TOKENS, tokens(folder)  # more, where a block ran twice
                assert not missing(there)
            for place in (folder, there):
                until(partial(nobody_left, place), f"nothing is left: {described(processes_of(place.path))}", 60)

    def lost(self, name: str) -> None:
        folder = self.folders[NAMES.index(name)]
        until(lambda: (found := host_of(folder.path)) and found.lost_ns, f"{name} is said to be out of reach", BACK_S)

    def reached(self, name: str) -> None:
        folder = self.folders[NAMES.index(name)]
        until(lambda: (found := host_of(folder.path)) and not found.lost_ns, f"{name} is reached again", BACK_S)


def begun(here: Machines, seconds: float) -> Run:
    """A run of about that long, in the background."""
    requests = 2 * math.ceil(seconds * RATE / TOKENS / 2)
    said = here.kasoku(*run_command(here, requests), "--detach")
    assert said.returncode == 0, said.stderr
    run = Run(here, requests, [SessionFolder(here.here.home / SESSIONS / line) for line in said.stdout.split()])
    run.at_work()
    return run


def run_command(here: Machines, requests: int) -> list[str]:
    """What begins it."""
    model = str(here.hosts[NAMES[0]].model)
    options = [
        "--method", "slow", "--model", model, "--requests", str(requests), "--blocks", "2", "--warmup", "0",
        "--max-new-tokens", str(TOKENS), "--prompt-tokens", "4", "--device", "cpu", "--seed", "7",
    ]  # fmt: skip
    return ["run", *here.named(), *options]


def _host_name(folder: SessionFolder) -> str:
    found = host_of(folder.path)
    return found.host if found else ""


def tokens(folder: SessionFolder) -> int:
    """How many have come here."""
    records = records_of(folder) if folder.journal.is_file() else []
    return sum(len(record.ids) for record in records if isinstance(record, Tokens))


def ended(folder: SessionFolder) -> bool:
    return not folder.is_live()


def nobody_left(folder: SessionFolder) -> bool:
    return not processes_of(folder.path)


def cut_link(here: Machines, cut_s: float) -> None:
    """One host's link is down for a while; its Ray is started again where it has ended meanwhile."""
    run = begun(here, cut_s + 60)
    here.link("a", "down")
    run.lost("a")
    before, began = tokens(run.there[0]), time.monotonic()
    until(lambda: time.monotonic() - began > cut_s, "the time is up", cut_s + 60)
    assert tokens(run.there[0]) > before, "the host did not go on"
    here.link("a", "up")
    restart_gone(here, "a")
    run.reached("a")
    run.over()


def restart_gone(here: Machines, name: str) -> None:
    """Start a worker's Ray again once it has noticed that it was given up; one that was not goes on."""
    until(lambda: here.raylet(name) is None or _known(here, name), f"{name}'s Ray has made up its mind", BACK_S)
    if here.raylet(name) is None:
        here.start_worker(name)


def _known(here: Machines, name: str) -> bool:
    """Whether the cluster counts this host among its own."""
    code = (
        f"import ray; ray.init({here.on!r}, log_to_driver=False, logging_level='ERROR');"
        f" print([n['Alive'] for n in ray.nodes() if 'box-{name}' in n['Resources']])"
    )
    asked = [sys.executable, "-c", code]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False, env=here.variables())
    return "True" in done.stdout


def kill_worker(here: Machines, _: float) -> None:
    """kill −9 of a host's raylet, with which Ray's workers there end; then Ray is started there again."""
    run = begun(here, 60)
    conductor = conductor_of(run.there[1])
    here.kill_raylet("b")
    run.lost("b")
    assert conductor.is_running()
    here.start_worker("b")
    run.over()


def kill_driver(here: Machines, _: float) -> None:
    """kill −9 of the carrier; then each session is attached to."""
    run = begun(here, 40)
    carrier = carrier_of(run.folders[0])
    carrier.kill()
    carrier.wait(60)
    assert all(conductor_of(there).is_running() for there in run.there)
    for folder in run.folders:
        said = here.kasoku("attach", folder.id)
        assert said.returncode == 0, said.stderr
    run.over()


def carrier_of(folder: SessionFolder) -> psutil.Process:
    return until(
        lambda: next((each for each in processes_of(folder.path) if CARRIER in " ".join(each.cmdline())), None),
        f"{folder.id} has a carrier",
    )


def restart_head(here: Machines, _: float) -> None:
    """kill −9 of the head; then it, and the hosts' Ray, are started again."""
    run = begun(here, 60)
    here.kill_head()
    run.lost("a")
    run.lost("b")
    for name in NAMES:
        if here.raylet(name) is not None:
            here.kill_raylet(name)
    here.start_head()
    for name in NAMES:
        here.start_worker(name)
    run.over()


def kill_conductor(here: Machines, _: float) -> None:
    """kill −9 of the conductor on one host: interrupted there and here; then resumed."""
    run = begun(here, 40)
    conductor_of(run.there[0]).kill()
    until(lambda: not run.folders[0].is_live(), "it has ended here", BACK_S)
    assert run.folders[0].read().status == "interrupted"
    said = here.kasoku("resume", run.folders[0].id)
    assert said.returncode == 0, said.stderr
    assert run.folders[0].read().status == "finished"


def lose_machine(here: Machines, _: float) -> None:
    """A host is gone with all on it, and its session here ended; then it is back, and the session is resumed."""
    run = begun(here, 40)
    folder = run.folders[0]
    here.kill_machine("a")
    run.lost("a")
    assert "running, out of reach" in here.kasoku("sessions").stdout
    here.kasoku("stop", folder.id)
    until(lambda: not folder.is_live(), "it has ended here", BACK_S)
    assert folder.read().status == "interrupted"
    assert "was not told to stop" in folder.read().error
    assert "running, out of reach" not in here.kasoku("sessions").stdout
    refused = here.kasoku("resume", folder.id)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    here.link("a", "up")
    here.start_worker("a")
    until(lambda: here.kasoku("resume", folder.id).returncode == 0, "it is resumed", BACK_S)
    run.over()


def one_key(here: Machines, _: float) -> None:
    """ctrl+c in `kasoku run`: both stop; then both are resumed."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(str(KASOKU), [str(KASOKU), *run_command(here, 16)], here.variables())
    drained = threading.Thread(target=_drain, args=(terminal,))
    drained.start()
    try:
        until(lambda: len([each for each in here.here.sessions() if _host_name(each)]) == len(NAMES), "both begin")
        run = Run(here, 16, here.here.sessions())
        run.at_work()
        os.write(terminal, b"\x03")
    finally:
        os.waitpid(child, 0)
        drained.join()
        os.close(terminal)
    run.over("stopped")
    for folder in run.folders:
        said = here.kasoku("resume", folder.id)
        assert said.returncode == 0, said.stderr
    run.over()


def _drain(terminal: int) -> None:
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while os.read(terminal, 65_536):
            pass


FAULTS: Final[dict[str, Callable[[Machines, float], None]]] = {
    "link": cut_link,
    "worker": kill_worker,
    "driver": kill_driver,
    "head": restart_head,
    "conductor": kill_conductor,
    "machine": lose_machine,
    "key": one_key,
}


# What many hosts cost the carrier


class _SimulatedLink:
    """A host that has a few lines more each time."""

    def __init__(self, address: str, lines: bytes) -> None:
        self.address, self._lines, self._due = address, lines, 0.0

    def errand(self, verb: str, asked: bytes, timeout_s: float) -> tuple[int, bytes, bytes]:  # noqa: ARG002
        return 0, b"", b""

    def begin_look(self, folder: str, offset: int, check: str, seen: int, pause_s: float, wait_s: float) -> None:  # noqa: ARG002
        self._due = time.monotonic() + pause_s

    def looked(self) -> Look | None:
        return Look(self._lines, b"", 1, 1) if time.monotonic() >= self._due else None

    def ask(self, folder: str, action: str) -> bool:  # noqa: ARG002
        return True


class _Simulated:
    """A cluster of such hosts."""

    def __init__(self, lines: bytes) -> None:
        self._lines = lines

    def reach(self, resource: str) -> Link:
        return _SimulatedLink(resource, self._lines)

    def wait(self, links: object, timeout_s: float) -> None:  # noqa: ARG002
        time.sleep(0.02)


def simulate(hosts: int) -> str:
    """CPU time of the carrier over so many hosts, whose journals grow by 50 lines at each look."""
    line = (
        b'{"k":"tokens","t":123456789012345,"method":"baseline","block":3,"request":12,"ids":[1,2,3],"t_ns":[1,2,3]}\n'
    )
    with tempfile.TemporaryDirectory() as folder:
        work = workplace_in(Path(folder))
        work.method("one")
        os.environ |= {"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)}
        plan = work.plan("one")
        carried = []
        for number in range(hosts):
            made, lock = create(work.home / SESSIONS, plan)
            os.close(lock)
            where = OnHost(on="ray://head:10001", host=f"h{number}", resource=f"h{number}", folder="/there")
            write_host(made.path, where)
            carried.append(Carried(made, where))
        carrier = Carrier(_Simulated(line * 50), carried)
        seconds = max(20.0, 2.5 * EACH_S * hosts)
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError()))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        before = resource.getrusage(resource.RUSAGE_SELF)
        with contextlib.suppress(TimeoutError):
            carrier.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        lines = sum(each.offset for each in carried) // len(line)
    return (
        f"{hosts} hosts: {100 * spent / seconds:.1f} % of a core, {lines / seconds:,.0f} lines/s,"
        f" {1e6 * spent / max(1, lines):.1f} µs a line,"
        f" {1e3 * spent / seconds / hosts:.2f} ms of CPU a host a second,"
        f" {after.ru_maxrss / 1024:.0f} MB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut-s", type=float, default=60.0, help="for how long the link is down (60)")
    parser.add_argument("--only", action="append", choices=FAULTS, help="this fault alone; repeatable")
    parser.add_argument("--simulated", metavar="N,N", help="no faults: the carrier's cost with so many hosts")
    options = parser.parse_args()
    print(machine_line("ray", "msgspec"), flush=True)
    if options.simulated:
        for number in options.simulated.split(","):
            print(simulate(int(number)), flush=True)
        return 0
    if reason := can_be_apart():
        print(f"This needs hosts apart: {reason}.")
        return 1
    failed = 0
    for name in options.only or FAULTS:
        began = time.monotonic()
        with machines() as here:
            for host in here.hosts.values():
                host.method("slow", rate=RATE)
            try:
                FAULTS[name](here, options.cut_s)
                print(f"{name}: sound afterwards ({time.monotonic() - began:.0f} s)", flush=True)
            except Exception:
                failed += 1
                traceback.print_exc()
                print(f"{name}: FAILED", flush=True)
                for folder in here.here.sessions():
                    log = folder.path / "conductor.log"
                    print(
                        folder.id,
                        folder.read().status,
                        folder.read().error,
                        log.read_text()[-1500:] if log.is_file() else "",
                    )
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
