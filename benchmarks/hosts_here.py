"""Two hosts and a head on this machine: network namespaces on a bridge, and a real Ray cluster across them.

Each host has a home of its own, for methods of the scripted engine. The cluster wants a token, as it should.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from methods.base.home import private_folder
from tests.sessions.conftest import workplace_in
from tests.sessions.processes import end_all, until
from tests.sessions.workplace import KASOKU, Workplace

NET: Final = "10.77.31"
BRIDGE: Final = "kasokubr"
GCS_PORT, CLIENT_PORT = 26379, 26001
STORE_BYTES: Final = 80_000_000
NAMES: Final = ("a", "b")


def command(*words: str, check: bool = True) -> str:
    """Run one; what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


@dataclass
class Machines:
    """The hosts by their workplaces, and `here`, where the sessions are followed."""

    folder: Path
    here: Workplace
    hosts: dict[str, Workplace]

    @property
    def on(self) -> str:
        return f"ray://{self._address(1)}:{CLIENT_PORT}"

    @property
    def ray_folder(self) -> Path:
        """Where Ray keeps its files and sockets: the path of one must be short."""
        return self.folder / "ray"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def token_variables(self) -> dict[str, str]:
        """By which Ray finds the cluster's token."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}

    def _address(self, last: int) -> str:
        return f"{NET}.{last}"

    def address(self, name: str) -> str:
        return self._address(2 + NAMES.index(name))

    def named(self) -> list[str]:
        """`--on` and `--host`."""
        return ["--on", self.on, *(word for name in NAMES for word in ("--host", f"{name}=box-{name}"))]

    def start_head(self) -> None:
        self._ray(
            "--head", f"--node-ip-address={self._address(1)}", f"--port={GCS_PORT}",
            f"--ray-client-server-port={CLIENT_PORT}", "--num-cpus=0", "--include-dashboard=false",
            f"--temp-dir={self.ray_folder}",
        )  # fmt: skip

    def start_worker(self, name: str) -> None:
        work = self.hosts[name]
        inside = ["ip", "netns", "exec", f"kasoku-{name}"]
        self._ray(
            f"--address={self._address(1)}:{GCS_PORT}", f"--node-ip-address={self.address(name)}", "--num-cpus=1",
            f'--resources={{"box-{name}": 1}}',
            inside=inside, variables={"KASOKU_HOME": str(work.home), "KASOKU_CONFIG": str(work.config)},
        )  # fmt: skip

    def _ray(self, *words: str, inside: list[str] | None = None, variables: dict[str, str] | None = None) -> None:
        start = [str(KASOKU.with_name("ray")), "start", *words, f"--object-store-memory={STORE_BYTES}"]
        done = subprocess.run(
            [*(inside or []), *start, "--disable-usage-stats"],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env=os.environ
            | {"PATH": f"{KASOKU.parent}:{os.environ['PATH']}"}
            | self.token_variables
            | (variables or {}),
        )
        if done.returncode != 0:
            raise RuntimeError(f"ray start {words[0]}: {done.stdout[-800:]}{done.stderr[-800:]}")

    def ray_processes(self, *words: str) -> list[psutil.Process]:
        """Ray's own on these hosts, with all of these words in their command lines."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if str(self.ray_folder) in line and all(word in line for word in words):
                    found.append(process)
        return found

    def raylet(self, name: str) -> psutil.Process | None:
        """The one of a host, None where it has gone."""
        resource = f"box-{name}"
        return next(iter(self.ray_processes("raylet/raylet", resource)), None)

    def kill_raylet(self, name: str) -> None:
        """Kill −9: what it has started ends with it."""
        raylet = until(lambda: self.raylet(name), f"{name} has a raylet")
        raylet.kill()
        raylet.wait(60)

    def kill_machine(self, name: str) -> None:
        """Kill −9 all that runs on a host, and cut its link."""
        self.link(name, "down")
        for number in command("ip", "netns", "pids", f"kasoku-{name}").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)
        until(lambda: not command("ip", "netns", "pids", f"kasoku-{name}").split(), f"{name} has gone", 60)

    def kill_head(self) -> None:
        """Kill −9 all that makes the head, with the servers of its clients, which do not name Ray's folder."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if "ray.util.client.server" in line and f":{GCS_PORT}" in line:
                    process.kill()
        for process in self.ray_processes():
            with contextlib.suppress(psutil.Error):
                line = " ".join(process.cmdline())
                if "box-" not in line and "raylet" not in line and "worker" not in process.name():
                    process.kill()
        head = [each for each in self.ray_processes("raylet/raylet") if "box-" not in " ".join(each.cmdline())]
        for process in head:
            process.kill()
        until(lambda: not self.ray_processes("gcs_server"), "the head has gone", 60)

    def link(self, name: str, state: str) -> None:
        """Set a host's link up or down."""
        command("ip", "link", "set", f"kasokuv-{name}", state)

    def kasoku(
        self, *words: str, timeout: float = 300, variables: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The real command, here; `variables` in place of those that have the token."""
        return subprocess.run(
            [str(KASOKU), *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self.variables(variables),
        )

    def variables(self, token: dict[str, str] | None = None) -> dict[str, str]:
        own = {"KASOKU_HOME": str(self.here.home), "KASOKU_CONFIG": str(self.here.config)}
        return os.environ | own | (self.token_variables if token is None else token)


def can_be_apart() -> str:
    """Why no namespaces can be made here, "" where they can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root alone"
    if shutil.which("ip") is None:
        return "there is no `ip` here"
    try:
        _disconnect()
        _connect()
    except RuntimeError as error:
        return f"no network namespaces can be connected here: {error}"
    finally:
        _disconnect()
    return ""


def _connect() -> None:
    command("ip", "link", "add", BRIDGE, "type", "bridge")
    command("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
    command("ip", "link", "set", BRIDGE, "up")
    for place, name in enumerate(NAMES, 2):
        space = f"kasoku-{name}"
        command("ip", "netns", "add", space)
        command("ip", "link", "add", f"kasokuv-{name}", "type", "veth", "peer", "name", "eth0", "netns", space)
        command("ip", "link", "set", f"kasokuv-{name}", "master", BRIDGE)
        command("ip", "link", "set", f"kasokuv-{name}", "up")
        command("ip", "-n", space, "addr", "add", f"{NET}.{place}/24", "dev", "eth0")
        command("ip", "-n", space, "link", "set", "eth0", "up")
        command("ip", "-n", space, "link", "set", "lo", "up")


def _disconnect() -> None:
    for name in NAMES:
        command("ip", "netns", "delete", f"kasoku-{name}", check=False)
        command("ip", "link", "delete", f"kasokuv-{name}", check=False)
    command("ip", "link", "delete", BRIDGE, check=False)


@contextmanager
def machines() -> Iterator[Machines]:
    """All of it, with Ray at work; nothing of it is left. Only where `can_be_apart`."""
    folder = Path(tempfile.mkdtemp(prefix="kr-", dir="/tmp"))
    found = Machines(
        folder,
        workplace_in(private_folder(folder / "here")),
        {name: workplace_in(private_folder(folder / name)) for name in NAMES},
    )
    found.token.write_text(secrets.token_hex(32), encoding="ascii")
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # else nothing below is undone
    try:
        _disconnect()
        _connect()
        found.start_head()
        for name in NAMES:
            found.start_worker(name)
        time.sleep(1)
        yield found
    finally:
        end_all(folder)
        _disconnect()
        shutil.rmtree(folder, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)
