"""A server in a container, which a daemon starts: measured like any other, and ended by its name, whatever becomes of
those who asked for it.

No daemon of Docker's runs where tests do. small_docker.py stands for it, and its containers are no descendants either.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from methods.base.home import private_folder
from sessions.disk.records import Loaded, SocketsSeen, Telemetry
from sessions.disk.seen_container import seen_container
from sessions.disk.session_folder import SessionFolder
from tests.methods.small_docker import SmallDocker, running
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, records_of, runs_of

SMALL = Path(__file__).parents[1] / "methods" / "small_server.py"


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDocker]:
    with tempfile.TemporaryDirectory(prefix="d-") as folder, running(Path(folder)) as (daemon, client):
        monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
        yield daemon


def boxed(work: Workplace, *more: str, publish: str = "127.0.0.1") -> str:
    """A method in the catalogue: the small server in a container, started for each block."""
    command = ["docker", "run", "--rm", "--name", "{container}", "--env", "KASOKU_TEST_KEY"]
    command += ["--publish", f"{publish}:{{port}}:{{port}}", "an-image"]
    command += [sys.executable, str(SMALL), "{port}", "--asked", str(work.home / "asked"), *more]
    return in_catalogue(work, "docker", command)


def in_catalogue(work: Workplace, runtime: str, command: list[str]) -> str:
    rows = [
        "[methods.boxed]",
        'summary = "a small server in a container"',
        'engine = "server"',
        'environments = { cpu = "plain" }',
        "[methods.boxed.options]",
        f"command = {json.dumps(command)}",
        f"container = {json.dumps(runtime)}",
        'key_variable = "KASOKU_TEST_KEY"',
    ]
    (private_folder(work.config / "methods") / "boxed.toml").write_text("\n".join(rows) + "\n")
    return "boxed"


def container_of(run: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the runner has seen of the block's container."""
    found: Mapping[str, Any] = json.loads(run["resolved"])["server"]["container"]
    return found


def processes_seen(folder: SessionFolder) -> set[float]:
    """How many processes the telemetry was of."""
    rows = [row for record in records_of(folder) if isinstance(record, Telemetry) for row in record.rows]
    return {row[3] for row in rows if row[:2] == ("runner", "processes") and row[3] is not None}


def test_a_server_in_a_container_is_measured_and_gone_after_each_block(work: Workplace, docker: SmallDocker) -> None:
    folder = work.run(boxed(work), requests=2, blocks=2)

    runs = runs_of(folder)
    assert [run["status"] for run in runs] == ["ok", "ok"], [run["error"] for run in runs]
    assert docker.running == {}
    names = [words[words.index("--name") + 1] for words in docker.asked if words[0] == "run"]
    assert len(set(names)) == 2
    assert all(run["peak_rss_bytes"] > 5e6 for run in runs)
    assert not any("in a container" in flag or "network" in flag for run in runs for flag in run["flags"])
    assert_nothing_left(folder)


def test_the_telemetry_is_of_the_containers_processes_too(work: Workplace, docker: SmallDocker) -> None:
    folder = work.launch(boxed(work, "--fault", "hangs"), requests=1)
    until((work.home / "asked").exists, "the server is asked")
    (process,) = docker.running.values()
    until(lambda: 3 in processes_seen(folder), "the runner, the client of the daemon and the container's process")
    (loaded,) = [record for record in records_of(folder) if isinstance(record, Loaded)]
    seen = seen_container(loaded.resolved)
    assert seen is not None
    assert seen.pid == process.pid
    conductor_of(folder).kill()
    until(lambda: not docker.running, "the container is gone")
    assert process.poll() is not None
    assert_nothing_left(folder)


def test_where_a_container_can_be_reached_counts_as_where_it_listens(work: Workplace, docker: SmallDocker) -> None:
    folder = work.run(boxed(work, "--pace", "0.1", publish="0.0.0.0"), requests=1)  # noqa: S104
    (run,) = runs_of(folder)
    ((host, port),) = container_of(run)["published"]
    assert [flag for flag in run["flags"] if flag == f"open to the network: listens on {host}:{port}"]
    seen = [record for record in records_of(folder) if isinstance(record, SocketsSeen)]
    assert f"{host}:{port}" in seen[0].listening
    assert f"127.0.0.1:{port}" in seen[0].listening  # the stand-in's process has this machine's network, too


def test_a_container_on_another_machine_has_no_memory_here_and_that_is_said(
    work: Workplace, docker: SmallDocker
) -> None:
    docker.far = True
    (run,) = runs_of(work.run(boxed(work), requests=1))
    assert (run["status"], run["peak_rss_bytes"]) == ("ok", None)
    elsewhere = "the first process is not to be seen on this machine"
    assert json.loads(run["missing"])["peak_rss_bytes"].startswith(f"Of the container, {elsewhere}")
    (flag,) = [flag for flag in run["flags"] if flag.startswith("in a container")]
    assert f"is not told from that of other processes: {elsewhere}" in flag


def test_a_container_that_cannot_be_ended_is_said_with_what_ends_it(work: Workplace, docker: SmallDocker) -> None:
    docker.stuck = True
    folder = work.run(boxed(work), requests=1, blocks=1)
    (run,) = runs_of(folder)
    (name,) = docker.running
    (flag,) = [flag for flag in run["flags"] if flag.startswith("container left")]
    assert f"docker rm --force {name}` ends it" in flag


@pytest.mark.parametrize(
    ("said", "pid", "published"),
    [
        ({"pid": 4711, "published": [["::", "80"], ["::", "http"], [1], 7]}, 4711, (("::", 80),)),
        ({"pid": True, "published": {}}, None, ()),
        ({"pid": 1}, None, ()),
        ({"pid": 2**63}, None, ()),
    ],
)
def test_a_runner_is_not_believed_what_cannot_be(said: object, pid: int | None, published: tuple[object, ...]) -> None:
    seen = seen_container({"server": {"container": said}})
    assert seen is not None
    assert (seen.pid, seen.published) == (pid, published)
    assert seen_container({"server": {"container": "c"}}) is None is seen_container({"server": "s"})
