"""Sessions whose rounds run side by side on the CPU, for real: in their lanes, stopped, killed and resumed."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from sessions.device.affinity import physical_cores, shared_out
from sessions.disk.records import BlockEnded, BlockStarted, RequestEnded
from sessions.disk.session_folder import SessionFolder
from sessions.run.launch import launch, missing, resume
from tests.probes.fake_nvml import FakeNvml
from tests.probes.scripted_driver import as_pynvml
from tests.sessions.processes import processes_of, until
from tests.sessions.soundness import assert_completed, assert_sound
from tests.sessions.workplace import Workplace, assert_nothing_left, conductor_of, records_of, runs_of

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(len(physical_cores(shared_out().runner)) < 2, reason="a lane takes a core of its own"),
]
LANES = 2
JOB = re.compile(r".*/logs/[^/]+-\d+\.json")
WANTED = {"spread": LANES, "blocks": 4, "requests": 8, "warmup": 0, "max_new_tokens": 24}


@pytest.fixture
def methods(work: Workplace) -> tuple[str, str]:
    return work.method("one", rate=30.0), work.method("two", reference="one", rate=30.0)


def at_work(folder: SessionFolder) -> dict[tuple[str, int], psutil.Process]:
    """The runners by their block."""
    found = {}
    for process in processes_of(folder.path):
        try:
            line = process.cmdline()
        except psutil.Error:
            continue
        job = next(
            (word for word in line if word.startswith(str(folder.path / "logs")) and word.endswith(".json")), None
        )
        if job is not None and "warden.py" not in line[2]:
            method, _, block = job.rpartition("/")[2].removesuffix(".json").rpartition("-")
            found[method, int(block)] = process
    return found


def both(folder: SessionFolder) -> dict[tuple[str, int], psutil.Process]:
    """Two runners at work, each of which has answered once."""

    def measured() -> dict[tuple[str, int], psutil.Process] | None:
        answered: set[tuple[str, int]] = set()
        for record in records_of(folder):
            if isinstance(record, RequestEnded):
                answered.add((record.method, record.block))
            elif isinstance(record, BlockStarted | BlockEnded):
                answered.discard((record.method, record.block))
        runners = at_work(folder) if len(answered) == LANES else {}  # which takes longer to find out
        return runners if runners.keys() == answered else None

    return until(measured, "each lane has answered once", 60)


def spans(folder: SessionFolder) -> Iterator[tuple[int, int, int]]:
    """Of each attempt at a block: its lane, and when it began and ended."""
    begun: dict[tuple[str, int], int] = {}
    for record in records_of(folder):
        if isinstance(record, BlockStarted):
            begun[record.method, record.block] = record.t
        elif isinstance(record, BlockEnded):
            yield record.block % LANES, begun[record.method, record.block], record.t


def test_a_runner_and_a_warden_that_are_killed_leave_the_other_lane_whole(
    work: Workplace, methods: tuple[str, str]
) -> None:
    folder = work.launch(*methods, **WANTED)
    runners = both(folder)
    cores = [set(process.cpu_affinity()) for process in runners.values()]
    assert cores[0].isdisjoint(cores[1])
    struck = [next(place for place in runners if place[1] % LANES == 0)]
    runners[struck[0]].send_signal(signal.SIGKILL)
    until(
        lambda: any(isinstance(each, BlockEnded) and each.status == "failed" for each in records_of(folder)), "its end"
    )
    runners = both(folder)
    struck.append(next(place for place in runners if place[1] % LANES == 1))
    warden = runners[struck[1]].parent()
    assert warden is not None
    assert "warden.py" in warden.cmdline()[2]
    warden.send_signal(signal.SIGKILL)
    assert work.finished(folder) == "finished"
    assert_nothing_left(folder)
    statuses = {(run["method"], run["block"]): run["status"] for run in runs_of(folder)}
    assert len(statuses) == 8
    assert {place for place, status in statuses.items() if status != "ok"} == set(struck)
    lanes = [[(begin, end) for lane, begin, end in spans(folder) if lane == number] for number in range(LANES)]
    assert all(end <= begin for lane in lanes for (_, end), (begin, _) in pairwise(sorted(lane)))
    assert set(missing(folder)) == set(struck)
    work.resume(folder)
    assert folder.read().status == "finished"
    assert_nothing_left(folder)
    assert_completed(folder)
    assert_sound(folder)


def test_a_conductor_that_is_killed_leaves_nothing_and_a_stop_ends_both_lanes(
    work: Workplace, methods: tuple[str, str]
) -> None:
    folder = work.launch(*methods, **WANTED)
    both(folder)
    conductor_of(folder).send_signal(signal.SIGKILL)
    assert_nothing_left(folder)
    assert work.command("show", folder.id).code == 0
    resume(folder, work.home)
    runners = both(folder)
    folder.ask("stop")
    assert work.finished(folder) == "stopped"
    assert_nothing_left(folder)
    ends = [each for each in records_of(folder) if isinstance(each, BlockEnded)][-LANES:]
    assert {(each.method, each.block) for each in ends} == runners.keys()
    assert {each.status for each in ends} == {"stopped"}
    resume(folder, work.home)
    runners = both(folder)
    method, block = min(runners, key=lambda place: place[1])
    folder.ask(f"skip-{method}-{block}")
    assert work.finished(folder) == "finished"
    assert missing(folder) == [(method, block)]
    work.resume(folder)
    assert folder.read().status == "finished"
    assert_completed(folder)
    assert_sound(folder)


def test_each_lane_has_gpus_of_its_own_and_one_that_is_lost_leaves_the_others_figures(
    work: Workplace, methods: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = tmp_path / "faults.json"
    driver = as_pynvml(tmp_path / "module", faults, 4)
    monkeypatch.setenv("PYTHONPATH", f"{driver}:{Path(__file__).parents[2]}")
    monkeypatch.setenv("SCRIPTED_IMPORT_S", "0.5")  # as real packages take, so that memory is read meanwhile
    uuids = [FakeNvml().uuid(number) for number in range(4)]
    plan = work.plan(*methods, **WANTED, threads=1)
    plan = replace(
        plan,
        methods=[replace(method, environment="plain") for method in plan.methods],
        device="0,1,2,3",
        gpu_uuids=uuids,
        gpu_visible=uuids,
        gpu_sources=["gpu0", "gpu1", "gpu2", "gpu3"],
    )
    folder = launch(work.home, plan)
    before_it = both(folder).keys()
    faults.write_text(json.dumps({"fail": {"*@3": 15}}))
    assert work.finished(folder) == "finished", folder.read().error
    assert_nothing_left(folder)
    runs = runs_of(folder)
    assert {(run["block"], run["status"]) for run in runs} == {(block, "ok") for block in range(4)}
    assert len(runs) == 8
    lost = "the GPU has fallen off the bus"
    for run in runs:
        told = f"{run['missing']} {run['flags']}"
        if run["block"] % LANES == 0:
            assert lost not in told
        elif (run["method"], run["block"]) not in before_it:
            assert run["timed_energy_j"] is None
            said = json.loads(run["missing"])["timed_energy_j"]
            assert lost in said or "did not answer within" in said  # a machine too busy to read it at that moment
    for run in runs:
        job = json.loads((folder.path / "logs" / f"{run['method']}-{run['block']}.json").read_bytes())
        assert job["gpu_uuids"] == (uuids[:2] if run["block"] % LANES == 0 else uuids[2:])
        assert run["idle_w"] == 2 * 312.5
        joules = pytest.approx(2 * 312.5 * (run["ended_ns"] - run["started_ns"]) / 1e9)
        assert run["power_integral_j"] in (joules, None)  # None where the machine was too busy to sample
        assert run["peak_vram_bytes"] in (0, None)  # the driver is made up
    assert_sound(folder)
