"""A /proc that holds processes only, or little of what it should: unknown, and measured all the same."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from probes.base.answer import answer
from probes.capture import capture
from probes.gpu.co_tenants import busy_processes
from probes.gpu.foreign_processes import descends_from
from probes.gpu.nvml import Nvml
from probes.host.allowed_cpus import allowed_cpus
from probes.host.free_memory import free_memory
from sessions.device import devices
from tests.sessions.conftest import opened
from tests.sessions.workplace import KASOKU, Workplace, runs_of

ONLY_PROCESSES = ["unshare", "-Urmpf", "sh", "-c", 'mount -t proc -o subset=pid proc /proc && exec "$@"', "sh"]
EMPTY_MEMINFO = ["unshare", "-Urm", "sh", "-c", 'mount --bind /dev/null /proc/meminfo && exec "$@"', "sh"]
NOTHING_OF_OTHERS = ["unshare", "-Urmpf", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh"]


class OddError(Exception):
    """Something that nobody expects of psutil."""


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever psutil and the kernel are asked, they raise."""

    def raises(*_: object, **__: object) -> None:
        raise OddError

    for name in ("virtual_memory", "cpu_count", "process_iter"):
        monkeypatch.setattr(psutil, name, raises)
    for name in ("parents", "cpu_times", "name"):
        monkeypatch.setattr(psutil.Process, name, raises)
    monkeypatch.setattr(os, "sched_getaffinity", raises)


@pytest.mark.usefixtures("odd")
def test_whatever_is_raised_is_not_known() -> None:
    assert free_memory() is None
    assert devices.cpu().facts.free_bytes is None
    assert allowed_cpus() == frozenset(range(os.cpu_count() or 1))
    assert busy_processes(window_s=0) == ()
    assert descends_from(psutil.Process(), ()) is False
    machine = capture(Nvml())
    assert machine.cores_logical is None
    assert "cores_logical" in machine.missing
    assert machine.affinity == tuple(range(os.cpu_count() or 1))


def test_a_figure_that_comes_with_a_warning_is_none() -> None:
    def guessed() -> int:
        import warnings

        warnings.warn("could not be determined and was set to 0", RuntimeWarning, stacklevel=1)
        return 0

    assert answer(guessed) is None


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    for work in opened(tmp_path_factory.mktemp("proc")):
        work.method("one")
        yield work


@pytest.mark.parametrize("within", [ONLY_PROCESSES, EMPTY_MEMINFO, NOTHING_OF_OTHERS])
def test_a_session_is_measured_and_doctor_has_its_findings(work: Workplace, within: list[str]) -> None:
    if (tried := subprocess.run([*within, "true"], capture_output=True, text=True, check=False)).returncode != 0:
        pytest.skip(f"no such /proc can be mounted here: {tried.stderr.strip()}")
    for command in (["doctor"], work.options("one")):
        done = subprocess.run([*within, str(KASOKU), *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
    newest = work.sessions()[-1]
    assert [run["status"] for run in runs_of(newest)] == ["ok"]
    assert "Traceback" not in Path(newest.path / "conductor.log").read_text()
