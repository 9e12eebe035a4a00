"""`--spread`: rounds side by side, each in a lane with GPUs or cores of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.gpu.nvml import Nvml
from probes.machine import Machine
from sessions.device.affinity import physical_cores, shared_out, shares
from sessions.device.devices import Device, choose, cpu
from sessions.disk.loads import Loads
from sessions.disk.option_table import Value
from sessions.disk.options import RunOptions
from sessions.disk.plan import Goal, Plan, PlannedBlock, PlannedMethod
from sessions.disk.records import (
    AnyRecord,
    BlockEnded,
    BlockPhase,
    BlockStarted,
    EvidenceTaken,
    Look,
    MachineSeen,
    RequestEnded,
    RequestStarted,
    Telemetry,
    Tokens,
)
from sessions.planning.degrees import at_degrees
from sessions.planning.lanes import check_lanes, lanes_on
from sessions.planning.wanted import PlanError
from sessions.run.block_sizes import BlockSizes
from sessions.run.known_evidence import KnownEvidence
from sessions.run.rounds import Rounds
from sessions.watch.reducer import LiveReducer
from tests.probes.fake_nvml import FakeNvml

SECOND = 1_000_000_000
UUIDS = [FakeNvml().uuid(number) for number in range(4)]
GPUS = [f"gpu{number}" for number in range(4)]


def plan(*names: str, lanes: int = 2, gpus: int = 0, **options: Any) -> Plan:
    rows = [
        PlannedMethod(name=name, engine="e", environment="t", reference="base" if name != "base" else None)
        for name in names
    ]
    wanted: dict[str, Any] = {"blocks": 6, "requests": 6, "seed": 3} | options
    return Plan(methods=rows, spread=lanes if lanes > 1 else None, gpu_uuids=UUIDS[:gpus], **wanted)


def begun(method: str, block: int, t: int = 0) -> Iterator[AnyRecord]:
    yield BlockStarted(t=t, method=method, block=block, position=1, of=1)
    yield BlockPhase(t=t + 1, method=method, block=block, phase="timed")
    yield RequestStarted(t=t + 2, method=method, block=block, request=block)


def ended(method: str, block: int, tok_s: float, t: int = 0) -> Iterator[AnyRecord]:
    end = t + 2 + int(2 / tok_s * SECOND)
    yield Tokens(t=end, method=method, block=block, request=block, index=0, times=[t + 3, end], ids=[1, 2])
    yield RequestEnded(t=end, method=method, block=block, request=block, finish="length", output_tokens=2)
    yield BlockEnded(t=end + 1, method=method, block=block, status="ok")


# The plan


def test_each_round_keeps_to_one_lane_and_its_gpus() -> None:
    made = plan("base", "fast", lanes=2, gpus=4)
    used = {(row.block, tuple(GPUS[made.gpus_of(row.method, row.block)])) for row in made.order()}
    assert used == {(number, ("gpu0", "gpu1") if number % 2 == 0 else ("gpu2", "gpu3")) for number in range(6)}
    split = Plan(methods=at_degrees(made.methods, [1, 2], 2), spread=2, gpu_uuids=UUIDS, blocks=2, requests=2)
    assert [GPUS[split.gpus_of("fast@tp1", block)] for block in (0, 1)] == [["gpu0"], ["gpu2"]]
    assert [GPUS[split.gpus_of("fast@tp2", block)] for block in (0, 1)] == [["gpu0", "gpu1"], ["gpu2", "gpu3"]]
    assert plan("base", lanes=1, gpus=2).gpus_of("base", 1) == slice(None)


def gpus(number: int) -> Device:
    return choose(",".join(map(str, range(number))), Nvml(FakeNvml(4)))


@pytest.mark.parametrize(
    ("device", "said", "sentence"),
    [
        (gpus(1), {"spread": 0}, "--spread goes over several GPUs, and this session has one: name them"),
        (gpus(1), {"spread": 2}, "--spread goes over several GPUs, and this session has one: name them"),
        (gpus(4), {"spread": 3}, "--spread 3: the session's 4 GPUs cannot be shared out evenly."),
        (gpus(4), {"spread": 1}, "--spread 1 is one round after another, as without it"),
        (cpu(), {"spread": 0}, "--spread on the CPU goes over its cores: say how many rounds at once"),
        (cpu(), {"spread": 64}, "--spread 64: there are? .* physical cores? for what is measured"),
    ],
)
def test_lanes_that_the_device_does_not_have_are_refused(device: Device, said: dict[str, Value], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence.replace("are?", "(is|are)")):
        lanes_on(device, said)


def test_alone_it_is_one_round_on_each_gpu() -> None:
    assert lanes_on(gpus(4), {"spread": 0}) == lanes_on(gpus(4), {"spread": 4}) == 4
    assert lanes_on(gpus(4), {"spread": 2}) == 2
    assert lanes_on(gpus(1), {}) == lanes_on(cpu(), {}) == 1


def test_it_goes_with_neither_a_load_nor_a_server_that_runs_already() -> None:
    with pytest.raises(PlanError, match="--spread and a load exclude each other"):
        check_lanes(RunOptions(spread=2, loads=Loads(concurrency="1,4")))
    with pytest.raises(PlanError, match="--spread and --server exclude each other"):
        check_lanes(RunOptions(spread=2, server="http://127.0.0.1:8000"))
    check_lanes(RunOptions(spread=2))


def test_a_degree_above_a_rounds_gpus_says_how_many_it_has() -> None:
    row = PlannedMethod(name="vllm", engine="vllm", environment="x", tensor_parallel=True)
    _, four = at_degrees([row], [1, 4], gpus=2, lanes=2)
    assert four.lacking["reason"] == "It cannot be split over 4 GPUs: with --spread a round has 2."


# Cores


def test_cores_are_shared_out_whole_and_next_to_each_other() -> None:
    pairs = {cpu: frozenset({cpu % 4, cpu % 4 + 4}) for cpu in range(8)}
    both = [frozenset({0, 1, 4, 5}), frozenset({2, 3, 6, 7})]
    assert shares(frozenset(range(8)), 2, pairs.__getitem__) == both
    three = shares(frozenset(range(8)), 3, pairs.__getitem__)
    assert frozenset().union(*three) == frozenset(range(8))
    assert sum(map(len, three)) == 8
    assert shares(frozenset({0, 4}), 2, pairs.__getitem__) == [frozenset({0, 4})] * 2
    own = shared_out().runner
    assert shares(own, 1) == [own]
    assert sum(map(len, physical_cores(own))) == len(own)


# Rounds


def waves(rounds: Rounds, done: set[tuple[str, int]], journal: list[AnyRecord]) -> Iterator[list[set[int]]]:
    """The numbers of the rounds that go side by side, each of which is carried out."""
    for lanes in rounds.waves(done, journal.append):
        blocks = [[row for _, row in lane] for lane in lanes]
        for row in (row for lane in blocks for row in lane):  # all begin before one ends
            for record in begun(row.method, row.block):
                rounds.feed(record)
        for row in (row for lane in blocks for row in lane):
            for record in ended(row.method, row.block, 2.0 if row.method == "fast" else 1.0 + row.block / 1000):
                rounds.feed(record)
            done.add((row.method, row.block))
        yield [{row.block for row in lane} for lane in blocks]


def test_rounds_go_side_by_side_and_what_is_missing_in_its_own_lane() -> None:
    made = plan("base", "fast")
    assert list(waves(Rounds(made, [made.goal]), set(), [])) == [[{0}, {1}], [{2}, {3}], [{4}, {5}]]
    all_but = {(row.method, row.block) for row in made.order()} - {("fast", 3), ("base", 4), ("base", 5)}
    assert list(waves(Rounds(made, [made.goal]), all_but, [])) == [[{3}], [{4}, {5}]]


def test_what_is_done_once_is_done_where_the_goals_first_round_is() -> None:
    made = plan("base", "fast")
    assert Rounds(made, [made.goal]).first_lane == 0
    assert Rounds(made, [made.goal, Goal(blocks=8, since=7, fidelity=True)]).first_lane == 1


def test_a_look_is_at_whole_rounds_though_their_blocks_came_mixed() -> None:
    made = plan("base", "fast", lanes=4, blocks=40, requests=40, until=0.05)
    journal: list[AnyRecord] = []
    assert list(waves(Rounds(made, [made.goal]), set(), journal)) == [[{0}, {1}, {2}, {3}]]
    (look,) = [record for record in journal if isinstance(record, Look)]
    assert (look.rounds, look.done) == (4, ["fast"])
    assert look.widths["fast"] < 0.05


def test_blocks_that_grow_side_by_side_have_no_request_in_common() -> None:
    sizes = BlockSizes()
    records: list[AnyRecord] = [
        *(BlockPhase(t=0, method="m", block=0, phase="timed"), RequestStarted(t=1, method="m", block=0, request=0)),
        BlockPhase(t=SECOND // 2, method="m", block=0, phase="evidence"),
        BlockEnded(t=SECOND, method="m", block=0, status="ok"),
    ]
    for record in records:
        sizes.feed(record)
    grown = [sizes.sized(PlannedBlock(method="m", block=block, requests=[block]), enough=True) for block in (1, 2)]
    first, second = (set(row.requests) for row in grown)
    assert len(first) == len(second) == 5
    assert first.isdisjoint(second)


def test_evidence_is_learnt_of_the_block_that_it_is_of() -> None:
    known = KnownEvidence()

    def taken(block: int, greedy: bool) -> EvidenceTaken:
        evidence: dict[str, object] = {"cache": "paged", **({"greedy": {"ids": [1]}} if greedy else {})}
        return EvidenceTaken(t=0, method="m", block=block, evidence=evidence, in_effect=True)

    known.feed(taken(0, greedy=True))
    known.feed(taken(1, greedy=False))
    known.feed(BlockEnded(t=1, method="m", block=1, status="ok"))
    assert not known.of("m").greedy
    known.feed(BlockEnded(t=2, method="m", block=0, status="ok"))
    assert known.of("m").greedy


# What is watched


def used(source: str, t_ns: int, value: float) -> Telemetry:
    return Telemetry(t=t_ns, rows=[(source, "memory_used_bytes", "bytes", value, t_ns, 1.0, "ok")])


def test_a_watcher_sees_each_lane_and_its_own_gpus() -> None:
    made = plan("base", "fast", gpus=2, blocks=2, requests=2)
    live = LiveReducer(made, "s")
    seen = MachineSeen(t=0, machine=Machine(), software={}, gpus=GPUS[:2])
    loads = [BlockPhase(t=30, method=method, block=block, phase="load") for method, block in (("base", 0), ("fast", 1))]
    for record in [
        seen,
        *begun("base", 0, 10),
        *begun("fast", 1, 20),
        *(used(source, 25, 1e9) for source in GPUS[:2]),
        *loads,
        *(used("gpu0", 40, 3e9), used("gpu1", 40, 6e9)),
        *(Tokens(t=50, method="base", block=0, request=0, index=0, times=[50, 60], ids=[1, 2]),),
    ]:
        live.feed(record)
    now = live.snapshot()
    assert (now.method, now.block, now.tokens) == ("base", 0, 2)
    assert [(lane.method, lane.block, lane.block_phase) for lane in now.lanes] == [
        ("base", 0, "load"),
        ("fast", 1, "load"),
    ]
    for record in ended("base", 0, 4.0, 100):
        live.feed(record)
    now = live.snapshot()
    assert (now.method, now.block) == ("fast", 1)
    assert {row.name: row.peak_vram_bytes for row in now.methods} == {"base": 2_000_000_000, "fast": 5_000_000_000}
    assert now.left_s is not None


def test_a_session_one_after_another_has_no_lanes_to_show() -> None:
    live = LiveReducer(plan("base", lanes=1), "s")
    for record in begun("base", 0):
        live.feed(record)
    assert live.snapshot().lanes == ()


# Orphans

GUARD = """
import os, subprocess, sys, time
from methods.base.warden import become_subreaper, descendants
from sessions.run.wardens import Wardens

become_subreaper()
wardens = Wardens()
SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]
STARTS_ONE = f"import subprocess; child = subprocess.Popen({SLEEPER!r})"
other = subprocess.Popen([sys.executable, "-c", f"{STARTS_ONE}; child.wait()"])
gone = subprocess.Popen([sys.executable, "-c", STARTS_ONE])
with wardens.undisturbed():
    wardens.add(other.pid)
    wardens.add(gone.pid)
gone.wait()
while len(descendants(os.getpid())) < 3:
    time.sleep(0.01)
wardens.end(gone.pid)
below = descendants(other.pid)
print(len(below), descendants(os.getpid()).keys() == {other.pid, *below})
other.kill()
other.wait()
wardens.end(other.pid)
print(descendants(os.getpid()))
"""


def test_a_warden_that_was_killed_leaves_its_orphans_and_no_other_lanes_processes_are_touched() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", GUARD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=root)
    assert (done.stdout, done.stderr) == ("1 True\n{}\n", "")
