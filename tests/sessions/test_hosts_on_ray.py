"""Two hosts of a real Ray cluster: what is refused before anything starts, doctor, a run whose carrier is killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from benchmarks.hosts import RATE, begun, carrier_of
from benchmarks.hosts_here import NAMES, Machines, can_be_apart, machines
from methods.base.home import SESSIONS
from sessions.disk.host_file import host_of
from sessions.run.launch import CONDUCTOR
from tests.sessions.processes import processes_of
from tests.sessions.workplace import conductor_of

pytest.importorskip("ray")
pytestmark = pytest.mark.engines


@pytest.fixture(scope="module")
def here() -> Iterator[Machines]:
    """The machines, in network namespaces."""
    if reason := can_be_apart():
        pytest.skip(reason)
    with ExitStack() as stack:
        try:
            found = stack.enter_context(machines())
        except RuntimeError as error:
            pytest.skip(f"Ray cannot be started here: {error}")
        for work in found.hosts.values():
            work.method("slow", rate=RATE)
        yield found


def test_what_makes_no_sense_is_refused_in_one_line_before_anything_starts(here: Machines) -> None:
    model = str(here.hosts["a"].model)
    for words, said in (
        (["--on", "ray://127.0.0.1:9", "--host", "a=box-a"], "No Ray cluster answers at ray://127.0.0.1:9"),
        (["--on", here.on, "--host", "a=nothing"], "a: No host of the cluster has the resource nothing now; it has"),
        (["--on", here.on, "--host", "a=box-a", "--method", "absent"], "a: Unknown method 'absent'"),
    ):
        done = here.kasoku("run", *words, "--model", model, "--device", "cpu")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    assert not here.here.sessions()
    assert not any(work.sessions() for work in here.hosts.values())


def test_a_token_that_is_missing_or_wrong_is_one_sentence(here: Machines, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("0" * 64)
    wrong = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
    for variables, said in (
        ({}, f"The cluster at {here.on} wants a token: set RAY_AUTH_MODE=token here, and RAY_AUTH_TOKEN_PATH"),
        (wrong, f"The cluster at {here.on} does not take the token that is here: set RAY_AUTH_TOKEN_PATH"),
    ):
        done = here.kasoku("run", *here.named(), "--device", "cpu", variables=variables)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    assert not here.here.sessions()


def test_doctor_says_what_each_host_can_run(here: Machines) -> None:
    done = here.kasoku("doctor", *here.named(), "--json")
    found = json.loads(done.stdout)
    assert sorted(found["hosts"]) == list(NAMES)
    assert found["refused"] == {}
    assert found["remark"] == "", "the cluster asks for a token"
    for name, work in here.hosts.items():
        assert found["hosts"][name]["methods"]["slow"] == ""
        assert any(str(work.home) in each["text"] for each in found["hosts"][name]["findings"])


def test_a_run_on_both_outlives_its_carrier_and_is_stopped_the_same_here_and_there(here: Machines) -> None:
    run = begun(here, 900)  # until it is stopped
    for there, name in zip(run.there, NAMES, strict=True):
        conductor = conductor_of(there)
        above = [each.name() for each in conductor.parents()]
        assert not any("ray" in each for each in above), above
        variables = conductor.environ()
        assert variables["KASOKU_HOME"] == str(here.hosts[name].home)
        assert not [each for each in variables if each.startswith("RAY_") or each == "CUDA_VISIBLE_DEVICES"]
    token = here.token.read_text()
    assert not [each for each in psutil.process_iter(["cmdline"]) if token in " ".join(each.info["cmdline"] or ())]
    carrier = carrier_of(run.folders[0])
    carrier.kill()
    carrier.wait(60)
    moved, other = run.folders
    now = ["--on", here.on, "--host", f"moved=node:{here.address('a')}"]
    again = here.kasoku("resume", moved.id, *now, "--detach")
    assert (again.returncode, again.stdout) == (0, f"{moved.id}\n"), again.stderr
    assert f"Nothing is begun on moved: {moved.id} is complete there, or at work." in again.stderr
    assert "is still followed at" in here.kasoku("attach", moved.id, *now).stderr
    for folder in (moved, other):
        here.kasoku("stop", folder.id)  # which finds the other one on its host first, and waits for a minute at most
    run.over("stopped")
    hosts = [found.host for folder in run.folders if (found := host_of(folder.path))]
    assert hosts == ["moved", "b"]
    for work in (here.here, *here.hosts.values()):
        files = [path for path in work.home.rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if token.encode() in path.read_bytes()]
    done = here.kasoku("compare", *(folder.id for folder in run.folders))
    assert done.returncode == 0, done.stderr
    for folder, name in zip(run.folders, hosts, strict=True):
        assert f"{folder.id} is of {name}:" in done.stdout
    assert not [each for each in processes_of(Path(here.folder)) if CONDUCTOR in each.cmdline()]
    assert os.listdir(here.here.home / SESSIONS)  # noqa: PTH208
