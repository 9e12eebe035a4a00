"""Who gets which CPU cores."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import psutil

from sessions.device.affinity import ALLOWED, keep_to, shared_out, siblings_of, starting_on
from tests.sessions.processes import until
from tests.sessions.workplace import Workplace, conductor_of, runner_of


def paired(distance: int) -> Callable[[int], frozenset[int]]:
    """Two hardware threads a core: cpu and cpu + distance."""
    return lambda cpu: frozenset({cpu % distance, cpu % distance + distance})


def test_two_cores_are_shared() -> None:
    cores = shared_out(frozenset({0, 1}), lambda cpu: frozenset({cpu}))
    assert cores.workbench == cores.runner == {0, 1}


def test_of_eight_hardware_threads_on_four_cores_the_workbench_gets_the_last_core_whole() -> None:
    cores = shared_out(frozenset(range(8)), paired(4))
    assert cores.workbench == {3, 7}
    assert cores.runner == {0, 1, 2, 4, 5, 6}


def test_of_sixteen_cores_it_gets_two() -> None:
    assert shared_out(frozenset(range(16)), lambda cpu: frozenset({cpu})).workbench == {14, 15}


def test_only_what_is_allowed_is_shared_out() -> None:
    cores = shared_out(frozenset({0, 1, 2, 3, 5}), paired(4))
    assert cores.workbench | cores.runner == {0, 1, 2, 3, 5}
    assert cores.workbench == {3}


def test_the_kernels_lists_name_this_cpu_among_its_siblings() -> None:
    for cpu in ALLOWED:
        assert cpu in siblings_of(cpu)


def test_what_is_started_on_other_cpus_leaves_this_thread_where_it_was() -> None:
    own = os.sched_getaffinity(0)
    one = frozenset({min(own)})
    with starting_on(one):
        said = subprocess.run(
            [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert said.stdout.strip() == str(sorted(one))
    assert os.sched_getaffinity(0) == own
    keep_to(frozenset({10**6}))  # a CPU that is not there
    assert os.sched_getaffinity(0) == own


def test_a_sessions_runner_and_conductor_run_where_they_should(work: Workplace) -> None:
    work.method("slow", rate=20.0)
    folder = work.launch("slow", max_new_tokens=200)
    runner = until(lambda: runner_of(folder), "a runner is at work")
    conductor = conductor_of(folder)
    cores = shared_out()
    assert set(psutil.Process(runner.pid).cpu_affinity() or ()) == cores.runner
    assert set(conductor.cpu_affinity() or ()) == cores.workbench
    folder.ask("stop")
    assert work.finished(folder) == "stopped"
