"""A server in a container of Docker's or Podman's own, where one of them works here.

Its image is empty: this machine's own folders are mounted into it, read-only, and so it has this Python.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sessions.disk.records import Loaded, SocketsSeen
from sessions.disk.seen_container import seen_container
from sessions.disk.session_folder import SessionFolder
from tests.sessions.processes import is_alive, until
from tests.sessions.test_containers import SMALL, container_of, in_catalogue, processes_seen
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, records_of, runs_of

IMAGE = "kasoku-test"
STARTS_S = 60.0
EMPTY_TAR = bytes(1024)
MOUNTED = ("/bin", "/lib", "/lib64", "/usr", sys.base_prefix, sys.prefix, str(Path(__file__).parents[2]))


def asked(*command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=stdin, capture_output=True, timeout=STARTS_S, check=False)


def started(runtime: str, *words: str, more: tuple[str, ...] = ()) -> list[str]:
    """The command that runs these words in a container."""
    volumes = [word for folder in sorted({*MOUNTED}) for word in ("--volume", f"{folder}:{folder}:ro")]
    return [runtime, "run", "--rm", *volumes, *more, IMAGE, *words]


@pytest.fixture(scope="module", params=["docker", "podman"])
def runtime(request: pytest.FixtureRequest) -> Iterator[str]:
    """One that runs a container here; its image is gone at the end."""
    program = shutil.which(request.param)
    if program is None or asked(program, "import", "-", IMAGE, stdin=EMPTY_TAR).returncode:
        pytest.skip(f"{request.param} is not here, or has no daemon")
    tried = asked(*started(program, sys.executable, "-c", "pass"))
    if tried.returncode:
        pytest.skip(f"{request.param} runs no container here: {tried.stderr.decode()[-200:]}")
    yield program
    asked(program, "rmi", "--force", IMAGE)


def with_network(work: Workplace, runtime: str, network: str) -> str:
    """A method whose server is in a container with this machine's network (host), or with one of its own (bridge)."""
    named = ("--name", "{container}", "--env", "KASOKU_TEST_KEY")
    words = [sys.executable, str(SMALL), "{port}", "--pace", "0.1"]
    if network == "host":
        return in_catalogue(work, runtime, started(runtime, *words, more=(*named, "--network", "host")))
    if asked(*started(runtime, sys.executable, "-c", "pass", more=("--publish", "127.0.0.1::8000"))).returncode:
        pytest.skip(f"{runtime} publishes no port here")
    publish = ("--publish", "127.0.0.1:{port}:{port}")
    return in_catalogue(work, runtime, started(runtime, *words, "--host", "0.0.0.0", more=(*named, *publish)))  # noqa: S104


def names_of(runtime: str) -> list[str]:
    """Of the containers that Kasoku has started, ended ones too."""
    said = asked(runtime, "ps", "--all", "--format", "{{.Names}}").stdout.decode().split()
    return [name for name in said if name.startswith("kasoku-")]


def process_of(folder: SessionFolder) -> psutil.Process | None:
    """The container's first."""
    for record in records_of(folder):
        if isinstance(record, Loaded):
            seen = seen_container(record.resolved)
            assert seen is not None
            return psutil.Process(seen.pid)
    return None


@pytest.mark.parametrize("network", ["host", "bridge"])
def test_it_is_measured_and_gone(work: Workplace, runtime: str, network: str) -> None:
    folder = work.run(with_network(work, runtime, network), requests=2, blocks=2)
    runs = runs_of(folder)
    assert [run["status"] for run in runs] == ["ok", "ok"], [run["error"] for run in runs]
    assert all(run["peak_rss_bytes"] > 5e6 for run in runs)
    assert not any("in a container" in flag or "network" in flag for run in runs for flag in run["flags"])
    first = next(record for record in records_of(folder) if isinstance(record, SocketsSeen))
    (address,) = container_of(runs[0])["published"] or [["127.0.0.1", first.listening[0].rpartition(":")[2]]]
    assert first.listening == [":".join(address)]
    assert names_of(runtime) == []
    assert_nothing_left(folder)


def test_it_is_gone_when_the_conductor_is_killed(work: Workplace, runtime: str) -> None:
    folder = work.launch(with_network(work, runtime, "host"), max_new_tokens=1000)
    process = until(lambda: process_of(folder), "the server is ready")
    until(lambda: any(count >= 3 for count in processes_seen(folder)), "its process is among those that are watched")
    conductor_of(folder).send_signal(signal.SIGKILL)
    until(lambda: not is_alive(process), "its process is gone")
    until(lambda: not names_of(runtime), "the container is gone")
    assert_nothing_left(folder)
