"""A server in a container, which a daemon starts: ended by its name, whatever becomes of those who asked for it.

No daemon of Docker's runs where tests do. small_docker.py stands for it, and its containers are no descendants either.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from methods.base.home import private_folder
from tests.methods.small_docker import SmallDocker, running
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, runs_of

SMALL = Path(__file__).parents[1] / "methods" / "small_server.py"


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDocker]:
    with tempfile.TemporaryDirectory(prefix="d-") as folder, running(Path(folder)) as (daemon, client):
        monkeypatch.setenv("PATH", f"{client}{os.pathsep}{os.environ['PATH']}")
        yield daemon


def boxed(work: Workplace, *more: str) -> str:
    """A method in the catalogue: the small server in a container, started for each block."""
    asked = str(work.home / "asked")
    command = ["docker", "run", "--rm", "--name", "{container}", "--env", "KASOKU_TEST_KEY"]
    command += ["--publish", "127.0.0.1:{port}:{port}", "an-image"]
    command += [sys.executable, str(SMALL), "{port}", "--asked", asked, *more]
    rows = [
        "[methods.boxed]",
        'summary = "a small server in a container"',
        'engine = "server"',
        'environments = { cpu = "plain" }',
        "[methods.boxed.options]",
        f"command = {json.dumps(command)}",
        'container = "docker"',
        'key_variable = "KASOKU_TEST_KEY"',
    ]
    (private_folder(work.config / "methods") / "boxed.toml").write_text("\n".join(rows) + "\n")
    return "boxed"


def test_a_server_in_a_container_is_measured_and_gone_after_each_block(work: Workplace, docker: SmallDocker) -> None:
    folder = work.run(boxed(work), requests=2, blocks=2)

    runs = runs_of(folder)
    assert [run["status"] for run in runs] == ["ok", "ok"], [run["error"] for run in runs]
    assert docker.running == {}
    names = [words[words.index("--name") + 1] for words in docker.asked if words[0] == "run"]
    assert len(set(names)) == 2
    assert all("in a container: its use of CPU and GPU is not told" in "; ".join(run["flags"]) for run in runs)
    assert [run["peak_rss_bytes"] for run in runs] == [None, None]
    assert "container" in json.loads(runs[0]["missing"])["peak_rss_bytes"]
    assert_nothing_left(folder)


def test_a_container_is_gone_when_the_conductor_is_killed_in_mid_request(work: Workplace, docker: SmallDocker) -> None:
    folder = work.launch(boxed(work, "--fault", "hangs"), requests=1)
    until((work.home / "asked").exists, "the server is asked")
    (process,) = docker.running.values()
    conductor_of(folder).kill()
    until(lambda: not docker.running, "the container is gone")
    assert process.poll() is not None
    assert_nothing_left(folder)


def test_a_container_that_cannot_be_ended_is_said_with_what_ends_it(work: Workplace, docker: SmallDocker) -> None:
    docker.stuck = True
    folder = work.run(boxed(work), requests=1, blocks=1)
    (run,) = runs_of(folder)
    (name,) = docker.running
    (flag,) = [flag for flag in run["flags"] if flag.startswith("container left")]
    assert f"docker rm --force {name}` ends it" in flag
